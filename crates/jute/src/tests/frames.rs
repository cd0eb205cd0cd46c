//! Frames as they arrive in pieces.

use bytes::{BufMut, BytesMut};

use crate::*;

/// Three frames: of 3, 0 and 8 bytes.
fn stream() -> BytesMut {
    let mut out = BytesMut::new();
    for content in [&b"abc"[..], b"", b"12345678"] {
        frame(&mut out, |out| out.put_slice(content)).unwrap();
    }
    out
}

#[test]
fn frames_are_found_wherever_the_bytes_are_split() {
    let stream = stream();
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let mut decoder = FrameDecoder::new(8);
            let mut frames = Vec::new();
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            for piece in pieces {
                decoder.buffer().extend_from_slice(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"", b"12345678"]);
        }
    }
}

/// The same for a frame over the limit: it is refused once, with its header, and skipped.
#[test]
fn a_large_frame_is_refused_and_skipped() {
    let mut stream = BytesMut::new();
    frame(&mut stream, |out| {
        out.put_slice(&[0, 0, 0, 7, 0, 0, 0, 5]);
        out.put_bytes(9, 12);
    })
    .unwrap();
    frame(&mut stream, |out| out.put_slice(b"next")).unwrap();
    let expected = FrameError::TooLarge {
        length: 20,
        limit: 19,
        header: RequestHeader { xid: 7, op: 5 },
    };
    for split in 0..=stream.len() {
        let mut decoder = FrameDecoder::new(19);
        let mut seen = Vec::new();
        for piece in [&stream[..split], &stream[split..]] {
            decoder.buffer().extend_from_slice(piece);
            loop {
                match decoder.next_frame() {
                    Ok(None) => break,
                    other => seen.push(other),
                }
            }
        }
        assert_eq!(seen, [Err(expected), Ok(Some("next".into()))]);
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    let mut decoder = FrameDecoder::new(3);
    decoder.buffer().extend_from_slice(&stream()[..7]);
    assert_eq!(decoder.next_frame(), Ok(Some("abc".into())));
}

#[test]
fn nothing_is_kept_of_a_large_frame() {
    let mut decoder = FrameDecoder::new(100_000);
    decoder.buffer().put_i32(6_400_000);
    decoder.buffer().put_bytes(0, 8);
    assert!(decoder.next_frame().is_err());
    for _ in 0..1000 {
        decoder.buffer().put_bytes(0, 4096);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.buffer().is_empty());
    }
    assert!(decoder.buffer().capacity() < 100_000);
}

#[test]
fn what_is_hardly_a_frame_is_not_skipped() {
    let limit = 100;
    for (length, expected) in [
        (6_463, Ok(None)),
        (
            6_464,
            Err(FrameError::FarTooLarge {
                length: 6_464,
                limit,
            }),
        ),
    ] {
        let mut decoder = FrameDecoder::new(limit);
        decoder.buffer().put_i32(length);
        assert_eq!(decoder.next_frame(), expected);
    }
}

#[test]
fn a_claimed_length_reserves_nothing() {
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.buffer().put_i32(i32::MAX);
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.buffer().capacity() < 1000);
}

#[test]
fn a_negative_length_is_refused() {
    let mut decoder = FrameDecoder::new(100);
    decoder.buffer().put_i32(-1);
    assert_eq!(decoder.next_frame(), Err(FrameError::NegativeLength(-1)));
}

#[test]
fn four_letter_words_are_found_at_the_start() {
    for word in FourLetterWord::ALL {
        let mut decoder = FrameDecoder::new(DEFAULT_MAX_FRAME);
        decoder.buffer().put_slice(&word.letters().as_bytes()[..3]);
        assert_eq!(decoder.leading_word(), None);
        decoder.buffer().put_slice(&word.letters().as_bytes()[3..]);
        assert_eq!(decoder.leading_word(), Some(*word));
    }
    let mut decoder = FrameDecoder::new(DEFAULT_MAX_FRAME);
    decoder.buffer().put_slice(b"nope");
    assert_eq!(decoder.leading_word(), None);
}
