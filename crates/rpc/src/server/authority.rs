//! Requests whose `:authority` isn't what RFC 3986 allows.
//!
//! `h2` resets such streams, and etcd serves them: older Go clients send their target there, for
//! instance `#initially=[http://127.0.0.1:2379]` or a socket's path. Nothing here looks at the
//! authority, so it is replaced before `h2` sees it. The replacement has the length of the
//! original, encoded and decoded: frames keep their sizes, and the tables of header compression on
//! both sides evict the same entries.
//!
//! A client names the same authority in all its calls. So a connection is watched until its first
//! request, and from then on only if that one had to be mended.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::uri::Authority;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Larger ones pass as they are.
const MAX_HELD_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 4096;
/// The place of `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: usize = 1;

/// A socket that mends the requests that come through it.
#[derive(Debug)]
pub(super) struct Lenient<I> {
    io: I,
    /// Nothing once no more is to be mended.
    filter: Option<Box<Filter>>,
}

impl<I> Lenient<I> {
    pub(super) fn new(io: I) -> Self {
        let filter = Some(Box::default());
        Self { io, filter }
    }
}

impl<I: Read + Unpin> Read for Lenient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(filter) = &mut this.filter else {
            return Pin::new(&mut this.io).poll_read(context, buffer);
        };
        while filter.out.is_empty() {
            let mut chunk = [0; READ_BYTES];
            let mut piece = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.io).poll_read(context, piece.unfilled()))?;
            if piece.filled().is_empty() {
                // The end: what is held will not be complete any more.
                filter.stage = Stage::Done;
                filter.release();
                break;
            }
            filter.push(piece.filled());
        }
        let length = filter.out.len().min(buffer.remaining());
        buffer.put_slice(&filter.out[..length]);
        filter.out.drain(..length);
        if filter.out.is_empty() && filter.stage == Stage::Done {
            this.filter = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Write + Unpin> Write for Lenient<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The preface, of which so much has come.
    Preface(usize),
    /// A frame's header, held until it is complete.
    Frame,
    /// A frame with a request's headers, held until it has so many bytes.
    Headers(usize),
    /// The rest of another frame.
    Skip(usize),
    /// Nothing of interest: HTTP/1, or a client that needs no mending.
    Done,
}

#[derive(Debug)]
struct Filter {
    stage: Stage,
    /// What is looked at as a whole.
    held: Vec<u8>,
    /// What may be read.
    out: Vec<u8>,
    /// A request was mended: others may follow.
    mends: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            stage: Stage::Preface(0),
            held: Vec::new(),
            out: Vec::new(),
            mends: false,
        }
    }
}

impl Filter {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.stage {
                Stage::Preface(seen) => self.preface(seen, bytes),
                Stage::Frame => self.hold(FRAME_HEADER_BYTES, bytes),
                Stage::Headers(length) => self.hold(length, bytes),
                Stage::Skip(left) => {
                    let taken = left.min(bytes.len());
                    self.out.extend_from_slice(&bytes[..taken]);
                    self.stage = match left - taken {
                        0 => Stage::Frame,
                        left => Stage::Skip(left),
                    };
                    taken
                }
                Stage::Done => {
                    self.out.extend_from_slice(bytes);
                    bytes.len()
                }
            };
            bytes = &bytes[taken..];
        }
    }

    fn preface(&mut self, seen: usize, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(PREFACE.len() - seen);
        let wanted = &PREFACE[seen..seen + taken];
        self.stage = match seen + taken {
            _ if bytes[..taken] != *wanted => Stage::Done,
            all if all == PREFACE.len() => Stage::Frame,
            some => Stage::Preface(some),
        };
        self.out.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn hold(&mut self, length: usize, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(length - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == length {
            match self.stage == Stage::Frame {
                true => self.frame(),
                false => self.headers(),
            }
        }
        taken
    }

    /// A frame begins.
    fn frame(&mut self) {
        let length = self.held[..3]
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        if self.held[3] == HEADERS && length > 0 && length <= MAX_HELD_BYTES {
            self.stage = Stage::Headers(FRAME_HEADER_BYTES + length);
            return;
        }
        self.release();
        self.stage = match length {
            0 => Stage::Frame,
            length => Stage::Skip(length),
        };
    }

    /// A request's headers are there, or their beginning, where the authority stands.
    fn headers(&mut self) {
        let flags = self.held[4];
        let mended = block(flags, &mut self.held[FRAME_HEADER_BYTES..]).is_some_and(mend);
        self.mends |= mended;
        self.release();
        self.stage = match self.mends {
            true => Stage::Frame,
            false => Stage::Done,
        };
    }

    fn release(&mut self) {
        self.out.append(&mut self.held);
    }
}

/// The header block within the payload of a HEADERS frame.
fn block(flags: u8, payload: &mut [u8]) -> Option<&mut [u8]> {
    let padding = match flags & PADDED {
        0 => None,
        _ => Some(usize::from(*payload.first()?)),
    };
    let priority = if flags & PRIORITY == 0 { 0 } else { 5 };
    let start = usize::from(padding.is_some()) + priority;
    let end = payload.len().checked_sub(padding.unwrap_or(0))?;
    payload.get_mut(start..end)
}

/// Mends the authority of a header block, if it has to be; the answer tells whether it had to.
/// Anything malformed stays for `h2` to refuse.
fn mend(block: &mut [u8]) -> bool {
    let mut at = 0;
    let mut mended = false;
    while let Some(field) = field(block, &mut at) {
        if let Some(value) = field {
            mended |= value.mend(block);
        }
    }
    mended
}

/// Where an authority stands in a block.
struct Value {
    from: usize,
    to: usize,
    is_coded: bool,
}

/// Steps over the field at `at`: its value if it is an authority that is spelled out. Nothing at
/// the end.
fn field(block: &[u8], at: &mut usize) -> Option<Option<Value>> {
    let first = *block.get(*at)?;
    let prefix = match first {
        0x80.. => 7,
        0x40.. => 6,
        0x20.. => 5,
        _ => 4,
    };
    let index = integer(block, at, prefix)?;
    if prefix == 7 || prefix == 5 {
        // Only an index, or the size of the table.
        return Some(None);
    }
    let mut is_authority = index == AUTHORITY_INDEX;
    if index == 0 {
        let name = string(block, at)?;
        is_authority = !name.is_coded && &block[name.from..name.to] == b":authority";
    }
    let value = string(block, at)?;
    Some(is_authority.then_some(value))
}

/// An integer with so many bits in its first byte (RFC 7541 §5.1).
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string (RFC 7541 §5.2).
fn string(block: &[u8], at: &mut usize) -> Option<Value> {
    let is_coded = *block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let from = *at;
    let to = from.checked_add(length).filter(|to| *to <= block.len())?;
    *at = to;
    Some(Value { from, to, is_coded })
}

impl Value {
    fn mend(&self, block: &mut [u8]) -> bool {
        let bytes = &mut block[self.from..self.to];
        let replacement = match self.is_coded {
            true => decoded(bytes)
                .filter(|text| !is_valid(text))
                .and_then(|text| coded_like(text.len(), bytes.len())),
            false if is_valid(bytes) || bytes.is_empty() => None,
            false => Some(vec![b'x'; bytes.len()]),
        };
        let Some(replacement) = replacement else {
            return false;
        };
        bytes.copy_from_slice(&replacement);
        true
    }
}

fn is_valid(authority: &[u8]) -> bool {
    Authority::try_from(authority).is_ok()
}

/// The printable letters by the length of their code, in the order of their codes: the code is
/// canonical (RFC 7541, appendix B).
const LETTERS: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];
/// Of each length one that may stand in an authority.
const FILLERS: [(usize, u8); 7] = [
    (13, b'~'),
    (11, b'\''),
    (10, b'!'),
    (8, b'X'),
    (7, b'k'),
    (6, b'b'),
    (5, b'0'),
];

/// The letter whose code these bits are.
fn letter(code: u32, bits: u32) -> Option<u8> {
    let (mut first, mut length) = (0, LETTERS[0].0);
    for (bits_of, letters) in LETTERS {
        first <<= bits_of - length;
        length = bits_of;
        if bits == bits_of {
            let at = usize::try_from(code.checked_sub(first)?).ok()?;
            return letters.get(at).copied();
        }
        first += u32::try_from(letters.len()).ok()?;
    }
    None
}

/// The code of a filler.
fn code(wanted: u8) -> Option<(u32, u32)> {
    let (mut first, mut length) = (0, LETTERS[0].0);
    for (bits, letters) in LETTERS {
        first <<= bits - length;
        length = bits;
        if let Some(at) = letters.iter().position(|letter| *letter == wanted) {
            return Some((first + u32::try_from(at).ok()?, bits));
        }
        first += u32::try_from(letters.len()).ok()?;
    }
    None
}

/// Decodes printable text; nothing where there are other letters.
fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut text, mut code, mut bits) = (Vec::new(), 0_u32, 0);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        code = code << 1 | u32::from(bit);
        bits += 1;
        if let Some(letter) = letter(code, bits) {
            text.push(letter);
            (code, bits) = (0, 0);
        } else if bits > 15 {
            return None;
        }
    }
    // What is left are the first bits of a code that is all ones.
    (bits < 8 && code + 1 == 1 << bits).then_some(text)
}

/// A valid authority of so many letters whose code takes so many bytes, if there is one.
fn coded_like(letters: usize, bytes: usize) -> Option<Vec<u8>> {
    let most = bytes.checked_mul(8)?;
    (0..8).find_map(|padding| {
        let text = filled(letters, most.checked_sub(padding)?)?;
        let mut coded = Vec::with_capacity(bytes);
        let (mut pending, mut pending_bits) = (0_u64, 0);
        for letter in text {
            let (code, bits) = code(letter)?;
            pending = pending << bits | u64::from(code);
            pending_bits += bits;
            while pending_bits >= 8 {
                pending_bits -= 8;
                coded.push((pending >> pending_bits).to_le_bytes()[0]);
            }
        }
        if pending_bits > 0 {
            let ones = (1 << (8 - pending_bits)) - 1;
            coded.push((pending << (8 - pending_bits) | ones).to_le_bytes()[0]);
        }
        (coded.len() == bytes).then_some(coded)
    })
}

/// So many letters whose codes take exactly so many bits.
fn filled(letters: usize, bits: usize) -> Option<Vec<u8>> {
    let mut left = bits;
    let mut text = Vec::with_capacity(letters);
    for after in (0..letters).rev() {
        // The others need five bits each at least.
        let room = left.checked_sub(after * 5)?;
        let (length, letter) = FILLERS.iter().find(|(length, _)| *length <= room)?;
        text.push(*letter);
        left -= length;
    }
    (left == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGE: [&str; 6] = [
        "#initially=[http://127.0.0.1:2379]",
        "/var/run/etcd.sock",
        "#",
        "a b",
        "http://[::1]:2379",
        "etcd-endpoints://0xc000/127.0.0.1:2379",
    ];

    /// As a client codes it.
    fn coded(text: &str) -> Vec<u8> {
        let bits: String = text
            .bytes()
            .map(|letter| {
                let (code, bits) = code(letter).unwrap();
                format!("{code:0width$b}", width = bits as usize)
            })
            .collect();
        let whole = bits.len().next_multiple_of(8);
        let bits = format!("{bits:1<whole$}");
        let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
        (0..whole).step_by(8).map(byte).collect()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let header = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        [&header[..], payload].concat()
    }

    fn headers(authority: &[u8], is_coded: bool) -> Vec<u8> {
        let length = u8::try_from(authority.len()).unwrap();
        let length = length | if is_coded { 0x80 } else { 0 };
        let before = [
            0x3f, 0xe1, 0x1f, 0x83, 0x86, 0x44, 2, b'/', b'x', 0x41, length,
        ];
        let block = [&before[..], authority, &[0xbe, 0x40, 1, b'a', 1, b'b']].concat();
        frame(HEADERS, 4, &block)
    }

    fn through(filter: &mut Filter, bytes: &[u8], step: usize) -> Vec<u8> {
        for piece in bytes.chunks(step) {
            filter.push(piece);
        }
        std::mem::take(&mut filter.out)
    }

    #[test]
    fn the_code_is_the_standards() {
        // RFC 7541, appendix C.4.1.
        let example = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(coded("www.example.com"), example);
        assert_eq!(decoded(&example).unwrap(), b"www.example.com");
        for letter in (0x20..0x7f).filter(|letter| *letter != b'\\') {
            let text = [letter; 3];
            let text = std::str::from_utf8(&text).unwrap();
            assert_eq!(decoded(&coded(text)).unwrap(), text.as_bytes(), "{text}");
        }
        assert_eq!(decoded(&[0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn strange_authorities_become_valid_ones_of_the_same_length() {
        for text in STRANGE {
            assert!(!is_valid(text.as_bytes()), "{text}");
            let before = coded(text);
            let after = coded_like(text.len(), before.len()).unwrap();
            assert_eq!(after.len(), before.len(), "{text}");
            let valid = decoded(&after).unwrap();
            assert!(valid.len() == text.len() && is_valid(&valid), "{valid:?}");
        }
    }

    #[test]
    fn requests_are_mended_however_they_arrive() {
        let settings = frame(4, 0, &[0, 3, 0, 0, 0, 9]);
        let data = frame(0, 1, &[7; 50]);
        for text in STRANGE {
            for (authority, is_coded) in [(text.as_bytes().to_vec(), false), (coded(text), true)] {
                let request = headers(&authority, is_coded);
                let sent = [PREFACE, &settings, &request, &data, &request].concat();
                let start = request.len() - 6 - authority.len();
                let mut told = Vec::new();
                for step in [1, 2, 7, 40, 1000] {
                    let mut filter = Filter::default();
                    let got = through(&mut filter, &sent, step);
                    assert_eq!(got.len(), sent.len());
                    let at = PREFACE.len() + settings.len();
                    let mended = &got[at..at + request.len()];
                    let value = &mended[start..start + authority.len()];
                    let value = match is_coded {
                        true => decoded(value).unwrap(),
                        false => value.to_vec(),
                    };
                    assert!(is_valid(&value) && value.len() == text.len());
                    // All else is as it was, and later requests are mended too.
                    let untouched = [PREFACE, &settings, mended, &data, mended].concat();
                    assert_eq!(got, untouched, "{text} in steps of {step}");
                    told.push(got);
                }
                told.dedup();
                assert_eq!(told.len(), 1);
            }
        }
    }

    #[test]
    fn whoever_needs_no_mending_is_left_alone() {
        let plain = headers(&coded("127.0.0.1:2379"), true);
        let strange = headers(b"a b", false);
        let settings = frame(4, 0, &[]);
        let sent = [PREFACE, &settings, &plain, &strange].concat();
        let mut filter = Filter::default();
        assert_eq!(through(&mut filter, &sent, 5), sent);
        assert_eq!(filter.stage, Stage::Done);
        let mut filter = Filter::default();
        let http1 = b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n";
        assert_eq!(through(&mut filter, http1, 3), http1);
        assert_eq!(filter.stage, Stage::Done);
    }

    #[test]
    fn what_is_malformed_passes_as_it_is() {
        for block in [
            &[0x41][..],
            &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x41, 9, b'a'],
            &[0x41, 0],
            &[0x40],
            &[0x7f, 0x80],
        ] {
            for flags in [4, 4 | PADDED, 4 | PRIORITY, 4 | PADDED | PRIORITY] {
                let sent = [PREFACE, &frame(HEADERS, flags, block)].concat();
                assert_eq!(through(&mut Filter::default(), &sent, 1000), sent);
            }
        }
        let padded = [3, 0x41, 3, b'a', b' ', b'b', 0, 0, 0];
        let sent = [PREFACE, &frame(HEADERS, 4 | PADDED, &padded)].concat();
        let got = through(&mut Filter::default(), &sent, 1000);
        assert!(got.ends_with(&[3, 0x41, 3, b'x', b'x', b'x', 0, 0, 0]));
    }
}
