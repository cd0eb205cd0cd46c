//! Whole numbers in JSON, with every spelling that protobuf's JSON mapping accepts: `1000`, `1e3`
//! and `1000.0` are the same.

/// More digits than 64 bits can have: such a number is out of range.
const MAX_DIGITS: u64 = 20;

/// The value of a JSON number, if it is a whole number of up to 20 digits.
pub(crate) fn whole(text: &str) -> Option<i128> {
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, self::exponent(exponent)?),
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, digits(fraction)?),
        None => (mantissa, ""),
    };
    let whole = digits(whole)?;
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let value = scaled(whole, fraction, exponent)?;
    Some(if is_negative { -value } else { value })
}

/// One digit or more.
fn digits(text: &str) -> Option<&str> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then_some(text)
}

/// An exponent that is too large for 64 bits is as good as the largest.
fn exponent(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let exponent = digits(text)?.parse().unwrap_or(i64::MAX);
    Some(sign * exponent)
}

/// `whole.fraction` times ten to the power of `exponent`, if it is a whole number.
fn scaled(whole: &str, fraction: &str, exponent: i64) -> Option<i128> {
    let fraction = fraction.trim_end_matches('0');
    let zeros = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let (whole, zeros) = match u64::try_from(zeros) {
        Ok(zeros) => (whole, zeros),
        // As in 1000e-3: zeros at the end are cut off.
        Err(_) if fraction.is_empty() => {
            let kept = whole.trim_end_matches('0');
            let cut = u64::try_from(whole.len() - kept.len()).ok()?;
            match kept.is_empty() {
                true => (kept, 0),
                false => (kept, cut.checked_sub(zeros.unsigned_abs())?),
            }
        }
        Err(_) => return None,
    };
    let all = whole.bytes().chain(fraction.bytes());
    let digits = all.skip_while(|digit| *digit == b'0');
    let count = u64::try_from(digits.clone().count()).ok()?;
    if count == 0 {
        return Some(0);
    }
    if count.checked_add(zeros)? > MAX_DIGITS {
        return None;
    }
    let zeros = std::iter::repeat_n(b'0', usize::try_from(zeros).ok()?);
    let digits = digits.chain(zeros);
    Some(digits.fold(0, |value, digit| value * 10 + i128::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_many_spellings() {
        for (text, value) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0.0", Some(0)),
            ("0e99999999999999999999", Some(0)),
            ("7", Some(7)),
            ("-7", Some(-7)),
            ("1e3", Some(1000)),
            ("1E+3", Some(1000)),
            ("1.0", Some(1)),
            ("1.50e1", Some(15)),
            ("0.001e3", Some(1)),
            ("1000e-3", Some(1)),
            ("1234e-3", None),
            ("1.5", None),
            ("1e-1", None),
            ("0.5", None),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9.223372036854775807e18", Some(i128::from(i64::MAX))),
            ("18446744073709551615", Some(i128::from(u64::MAX))),
            ("-9223372036854775808", Some(i128::from(i64::MIN))),
            ("1e400", None),
            ("1e99999999999999999999", None),
            ("1e-99999999999999999999", None),
            ("007", None),
            ("", None),
            ("-", None),
            ("+1", None),
            (".5", None),
            ("1.", None),
            ("1e", None),
            ("1e+", None),
            ("0x1", None),
            ("1 ", None),
            ("--1", None),
            ("1.e3", None),
            ("NaN", None),
        ] {
            assert_eq!(whole(text), value, "{text:?}");
        }
    }

    #[test]
    fn a_long_number_costs_no_more_than_its_length() {
        let nines = "9".repeat(1_000_000);
        for text in [
            nines.clone(),
            format!("0.{nines}e1000000"),
            format!("-{nines}e-3"),
        ] {
            assert_eq!(whole(&text), None);
        }
        assert_eq!(
            whole(&format!("1{}e-1000000", "0".repeat(1_000_000))),
            Some(1)
        );
    }
}
