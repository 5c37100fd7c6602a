module logfmt-reader

go 1.26

require github.com/go-logfmt/logfmt v0.6.1
