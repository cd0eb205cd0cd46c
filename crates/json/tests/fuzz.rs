//! A fixed corpus of text and of messages, whole and damaged, goes through the reader and the
//! writer of every method: nothing panics, and nothing grows out of proportion.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use bytes::Bytes;
use synod_json::{Schema, Splitter, Writer};
use synod_proto::http::PATHS;

/// One text a line.
const CORPUS: &str = include_str!("corpus.txt");

/// The most that one byte can become: a message in a list with the longest name of a field.
const MAX_GROWTH: usize = 40;
/// What an empty message or a single value can become.
const SPARE_BYTES: usize = 256;

fn schema() -> Schema {
    let methods = PATHS.iter().map(|(_, method)| *method);
    Schema::new(synod_proto::FILE_DESCRIPTOR_SET, methods).unwrap()
}

/// The text itself, every beginning of it, and with each byte replaced by some others.
fn damaged(text: &[u8], mut visit: impl FnMut(&[u8])) {
    visit(text);
    for length in 0..text.len() {
        visit(&text[..length]);
    }
    let mut copy = text.to_vec();
    for at in 0..text.len() {
        for byte in [0, b'"', b'\\', b'{', b'}', b'[', b'0', b'-', 0x80, 0xff] {
            copy[at] = byte;
            visit(&copy);
        }
        copy[at] = text[at];
    }
}

fn split(text: &[u8]) {
    let (mut rest, mut splitter) = (text, Splitter::default());
    while let Ok(Some(length)) = splitter.find(rest) {
        assert!(length > 0 && length <= rest.len());
        rest = &rest[length..];
    }
}

#[test]
fn no_text_causes_a_panic_or_excessive_memory() {
    let schema = schema();
    let inputs: Vec<_> = PATHS
        .iter()
        .map(|(_, method)| schema.method(method).unwrap().input)
        .collect();
    let mut was_read = 0;
    for (number, line) in CORPUS.lines().enumerate() {
        // All messages for the text itself, and one in turn for each damaged form.
        for input in &inputs {
            was_read += usize::from(
                schema
                    .to_wire(*input, line.as_bytes(), &mut Vec::new())
                    .is_ok(),
            );
        }
        let mut turn = number;
        damaged(line.as_bytes(), |text| {
            turn += 1;
            let mut wire = Vec::new();
            let _either = schema.to_wire(inputs[turn % inputs.len()], text, &mut wire);
            assert!(wire.len() <= text.len() * MAX_GROWTH + SPARE_BYTES);
            split(text);
        });
    }
    assert!(was_read > CORPUS.lines().count(), "{was_read}");
}

#[test]
fn no_message_causes_a_panic_or_excessive_memory() {
    let schema = schema();
    let mut was_written = 0;
    for line in CORPUS.lines() {
        for (_, method) in PATHS {
            let method = schema.method(method).unwrap();
            let mut wire = Vec::new();
            if schema
                .to_wire(method.input, line.as_bytes(), &mut wire)
                .is_err()
                || wire.is_empty()
            {
                continue;
            }
            for id in [method.input, method.output] {
                damaged(&wire, |wire| {
                    let mut text = Vec::new();
                    let mut writer = Writer::new(id, Bytes::copy_from_slice(wire));
                    let written = writer.write(&schema, usize::MAX, &mut text);
                    was_written += usize::from(written.is_ok());
                    assert!(text.len() <= wire.len() * MAX_GROWTH + SPARE_BYTES);
                });
            }
        }
    }
    assert!(was_written > 1000, "{was_written}");
}
