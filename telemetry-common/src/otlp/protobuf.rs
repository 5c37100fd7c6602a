//! Writes protobuf messages: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! As in the encoding of `proto3`, a field with its default value is left out, except in
//! [`Message::variant`].

/// A message that is written to the end of a buffer. Write the fields in the order of their numbers, as
/// other encoders do.
pub(super) struct Message<'b>(pub(super) &'b mut Vec<u8>);

/// The kinds of encoding.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

impl Message<'_> {
    /// Writes an integer or an enum.
    pub(super) fn integer(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, VARINT);
            self.varint(value);
        }
    }

    /// Writes an integer of fixed size.
    pub(super) fn fixed_64(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, FIXED_64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes an integer of fixed size.
    pub(super) fn fixed_32(&mut self, field: u64, value: u32) {
        if value != 0 {
            self.key(field, FIXED_32);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes a string or bytes.
    pub(super) fn bytes(&mut self, field: u64, value: impl AsRef<[u8]>) {
        if !value.as_ref().is_empty() {
            self.variant(field, Variant::Bytes(value.as_ref()));
        }
    }

    /// Writes the value of a `oneof`, which is written even if it is the default value.
    pub(super) fn variant(&mut self, field: u64, value: Variant<'_>) {
        match value {
            Variant::Integer(value) => {
                self.key(field, VARINT);
                self.varint(value);
            }
            Variant::Double(value) => {
                self.key(field, FIXED_64);
                self.0.extend_from_slice(&value.to_le_bytes());
            }
            Variant::Bytes(value) => {
                self.key(field, DELIMITED);
                self.varint(value.len() as u64);
                self.0.extend_from_slice(value);
            }
        }
    }

    /// Writes a message inside this one.
    pub(super) fn message(&mut self, field: u64, write: impl FnOnce(&mut Message<'_>)) {
        self.key(field, DELIMITED);
        // The length is known afterwards. It usually has one byte.
        let start = self.0.len();
        self.0.push(0);
        write(&mut Message(self.0));
        let end = self.0.len();
        let length = (end - start - 1) as u64;
        if let Some(byte) = one_byte(length) {
            self.0[start] = byte;
            return;
        }
        let (length, size) = varint(length);
        self.0.resize(end + size - 1, 0);
        self.0.copy_within(start + 1..end, start + size);
        self.0[start..start + size].copy_from_slice(&length[..size]);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn varint(&mut self, value: u64) {
        if let Some(byte) = one_byte(value) {
            self.0.push(byte);
        } else {
            let (bytes, size) = varint(value);
            self.0.extend_from_slice(&bytes[..size]);
        }
    }
}

/// Returns the encoding of an integer if it has one byte, as most keys and lengths.
fn one_byte(value: u64) -> Option<u8> {
    u8::try_from(value).ok().filter(|byte| *byte < 0x80)
}

/// Returns the encoding of an integer, and its size: seven bits in each byte, the lowest first.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut size) = ([0; 10], 0);
    loop {
        bytes[size] = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        size += 1;
        if value == 0 {
            return (bytes, size);
        }
        bytes[size - 1] |= 0x80;
    }
}

/// The value of a `oneof`.
#[derive(Clone, Copy)]
pub(super) enum Variant<'v> {
    Integer(u64),
    Double(f64),
    Bytes(&'v [u8]),
}
