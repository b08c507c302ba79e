//! The rule for registration ids.

pub(crate) const ALLOWED: &str = "up to 128 letters, digits and - . _ : that start with a letter or digit and end with a letter, digit or -";

/// Whether this is a registration id by the terminology page, which allows more at the end than the
/// REST reference.
pub(crate) fn is_valid(id: &str) -> bool {
    let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    let (Some(first), Some(last)) = (id.bytes().next(), id.bytes().last()) else {
        return false;
    };
    id.len() <= 128
        && id.bytes().all(character)
        && first.is_ascii_alphanumeric()
        && (last.is_ascii_alphanumeric() || last == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_digits_and_four_signs_make_an_id() {
        for id in ["a", "device-7", "mac:a1:b2", "A.b_c", "ends-with-", "7"] {
            assert!(is_valid(id), "{id}");
        }
        assert!(is_valid(&"x".repeat(128)));
    }

    #[test]
    fn other_signs_ends_and_lengths_do_not() {
        for id in ["", "-a", "a.", "a:", "a b", "a/b", "a%3Ab", "é"] {
            assert!(!is_valid(id), "{id}");
        }
        assert!(!is_valid(&"x".repeat(129)));
    }
}
