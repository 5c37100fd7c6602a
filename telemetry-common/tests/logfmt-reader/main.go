// Reads logfmt from stdin, and writes the pairs of each line to stdout as a JSON array of [name, value].
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/go-logfmt/logfmt"
)

func main() {
	decoder, encoder := logfmt.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for decoder.ScanRecord() {
		pairs := [][2]string{}
		for decoder.ScanKeyval() {
			pairs = append(pairs, [2]string{string(decoder.Key()), string(decoder.Value())})
		}
		if err := encoder.Encode(pairs); err != nil {
			log.Fatal(err)
		}
	}
	if err := decoder.Err(); err != nil {
		log.Fatal(err)
	}
}
