//! Hand-made protobuf, for requests that a client library can't build.

/// A length-delimited field.
pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [
        varint(field << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

/// A varint field.
pub(crate) fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value.cast_unsigned())].concat()
}

/// A message's field: its number, and a varint's value or a delimited field's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Number(u64, i64),
    Bytes(u64, Vec<u8>),
}

/// Decodes a message. `None` if it is invalid or uses fixed-width fields.
pub(crate) fn decode(mut raw: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !raw.is_empty() {
        let key = take_varint(&mut raw)?;
        let field = key >> 3;
        fields.push(match key & 7 {
            0 => Field::Number(field, take_varint(&mut raw)?.cast_signed()),
            2 => {
                let length = usize::try_from(take_varint(&mut raw)?).ok()?;
                let (value, rest) = raw.split_at_checked(length)?;
                raw = rest;
                Field::Bytes(field, value.to_vec())
            }
            _ => return None,
        });
    }
    Some(fields)
}

/// The value of a varint field; 0 if it is absent.
pub(crate) fn number_of(raw: &[u8], field: u64) -> i64 {
    let fields = decode(raw).unwrap_or_default();
    fields
        .iter()
        .find_map(|found| match found {
            Field::Number(number, value) if *number == field => Some(*value),
            Field::Number(..) | Field::Bytes(..) => None,
        })
        .unwrap_or_default()
}

/// All values of a delimited field.
pub(crate) fn bytes_of(raw: &[u8], field: u64) -> Vec<Vec<u8>> {
    decode(raw)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|found| match found {
            Field::Bytes(number, value) if number == field => Some(value),
            Field::Number(..) | Field::Bytes(..) => None,
        })
        .collect()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut raw = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            raw.push(low);
            return raw;
        }
        raw.push(low | 0x80);
    }
}

fn take_varint(raw: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = raw.split_first()?;
        *raw = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[test]
fn a_message_survives_the_round_trip() {
    let raw = [number(1, -5), bytes(2, b"key"), number(300, 7)].concat();
    assert_eq!(
        decode(&raw),
        Some(vec![
            Field::Number(1, -5),
            Field::Bytes(2, b"key".to_vec()),
            Field::Number(300, 7)
        ])
    );
    assert_eq!(
        (number_of(&raw, 1), bytes_of(&raw, 2)),
        (-5, vec![b"key".to_vec()])
    );
    assert_eq!(decode(&raw[..raw.len() - 1]), None);
}
