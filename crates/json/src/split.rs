//! A stream of JSON objects in one body, cut into objects as they arrive.

use thiserror::Error;

/// What can't be an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a JSON object, found {found:?}")]
pub struct SplitError {
    found: char,
}

/// Finds the ends of objects. It looks at each byte once, and leaves everything but brackets and
/// quotes to the reader of the object.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    /// How many bytes of the buffer were examined.
    seen: usize,
    depth: usize,
    string: InString,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum InString {
    #[default]
    No,
    Yes,
    AfterBackslash,
}

impl Splitter {
    /// The length of the first object in `buffer`, with the space before it. `None` if its end is
    /// not there yet: call it again with the same bytes and more after them. After an object was
    /// found, call it with what follows.
    ///
    /// # Errors
    /// Something other than an object begins there.
    pub fn find(&mut self, buffer: &[u8]) -> Result<Option<usize>, SplitError> {
        for (at, byte) in buffer.iter().enumerate().skip(self.seen) {
            match (self.string, byte) {
                (InString::AfterBackslash, _) => self.string = InString::Yes,
                (InString::Yes, b'\\') => self.string = InString::AfterBackslash,
                (InString::Yes, b'"') => self.string = InString::No,
                (InString::Yes, _) => {}
                (InString::No, b'"') if self.depth > 0 => self.string = InString::Yes,
                (InString::No, b'{') => self.depth += 1,
                (InString::No, b'[') if self.depth > 0 => self.depth += 1,
                (InString::No, b'}' | b']') if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.seen = 0;
                        return Ok(Some(at + 1));
                    }
                }
                (InString::No, b' ' | b'\t' | b'\r' | b'\n') => {}
                (InString::No, _) if self.depth > 0 => {}
                (InString::No, other) => {
                    let found = char::from(*other);
                    return Err(SplitError { found });
                }
            }
        }
        self.seen = buffer.len();
        Ok(None)
    }

    /// Whether an object has begun and not ended.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects of a body that arrives in pieces of `size` bytes, and how it ends.
    fn split(body: &str, size: usize) -> (Vec<String>, Result<bool, SplitError>) {
        let (mut found, mut buffer, mut splitter) = (Vec::new(), Vec::new(), Splitter::default());
        for piece in body.as_bytes().chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match splitter.find(&buffer) {
                    Ok(Some(length)) => {
                        let rest = buffer.split_off(length);
                        let object = std::mem::replace(&mut buffer, rest);
                        found.push(String::from_utf8(object).unwrap().trim().to_owned());
                    }
                    Ok(None) => break,
                    Err(error) => return (found, Err(error)),
                }
            }
        }
        (found, Ok(splitter.is_inside()))
    }

    #[test]
    fn objects_are_found_however_they_arrive() {
        let wrong = |found| Err(SplitError { found });
        for (body, objects, end) in [
            ("", &[][..], Ok(false)),
            (" \r\n\t", &[], Ok(false)),
            ("{}", &["{}"], Ok(false)),
            ("{}{}\n {}", &["{}", "{}", "{}"], Ok(false)),
            (
                r#"{"a":{"b":[1,{}]}} "#,
                &[r#"{"a":{"b":[1,{}]}}"#],
                Ok(false),
            ),
            (r#"{"a":"}{]\"}\\"}{"#, &[r#"{"a":"}{]\"}\\"}"#], Ok(true)),
            (r#"{"a":"#, &[], Ok(true)),
            (r#"{"a":""#, &[], Ok(true)),
            // Wrong brackets are for the reader of the object to see.
            ("{]", &["{]"], Ok(false)),
            ("[{}]", &[], wrong('[')),
            ("7", &[], wrong('7')),
            (r#""{}""#, &[], wrong('"')),
            ("{},{}", &["{}"], wrong(',')),
            ("}", &[], wrong('}')),
            ("null", &[], wrong('n')),
        ] {
            for size in [1, 2, 3, body.len().max(1)] {
                let (found, ended) = split(body, size);
                assert_eq!(
                    (found.as_slice(), ended),
                    (
                        &*objects
                            .iter()
                            .map(|object| (*object).to_owned())
                            .collect::<Vec<_>>(),
                        end
                    ),
                    "{body}"
                );
            }
        }
    }
}
