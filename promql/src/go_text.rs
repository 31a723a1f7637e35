//! Texts as Go prints them: quoted strings with arbitrary bytes, characters, floats without exponent.

use std::fmt::Write;

use model::quote;

/// Go's `strconv.FormatFloat(value, 'f', -1, 64)`: the shortest digits, never an exponent.
pub(crate) fn format_plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Go's `%g` and `%v` of a float.
pub(crate) fn format_general(value: f64) -> String {
    let mut out = String::new();
    model::format_float(value, &mut out);
    out
}

/// Go's `%q` of a string that need not be UTF-8.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Go's `%q` of a character.
pub(crate) fn quote_char(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        _ => {
            let quoted = quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// The text of a Go string literal (double or single quotes with escapes, or backquotes), without the quotes interpreted.
/// `None` if it is none.
pub(crate) fn unquote(literal: &str) -> Option<Vec<u8>> {
    let quote = literal.chars().next()?;
    let body = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    if literal.len() < 2 {
        return None;
    }
    match quote {
        '`' => return (!body.contains('`')).then(|| body.replace('\r', "").into_bytes()),
        '"' | '\'' => {}
        _ => return None,
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            if c == quote || c == '\n' {
                return None;
            }
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next()?;
        let (digits, radix) = match escape {
            'a' => (out.push(7), (0, 0)).1,
            'b' => (out.push(8), (0, 0)).1,
            'f' => (out.push(12), (0, 0)).1,
            'n' => (out.push(b'\n'), (0, 0)).1,
            'r' => (out.push(b'\r'), (0, 0)).1,
            't' => (out.push(b'\t'), (0, 0)).1,
            'v' => (out.push(11), (0, 0)).1,
            '\\' => (out.push(b'\\'), (0, 0)).1,
            c if c == quote => (out.push(quote as u8), (0, 0)).1,
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (2, 8),
            _ => return None,
        };
        if digits == 0 {
            continue;
        }
        let mut code = if radix == 8 { escape.to_digit(8)? } else { 0 };
        for _ in 0..digits {
            code = code.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?)?;
        }
        match escape {
            'u' | 'U' => out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => out.push(u8::try_from(code).ok()?),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_unquoted_as_go_does() {
        for (literal, text) in [
            (r#""a\"b""#, Some(&b"a\"b"[..])),
            (r#"'a\'b"c'"#, Some(b"a'b\"c")),
            (r"`a\nb`", Some(br"a\nb")),
            (r#""\x41\101A\U0001F600""#, Some("AAA😀".as_bytes())),
            (r#""\xff""#, Some(&[0xff])),
            (r#""\'""#, None),
            (r#""\uD800""#, None),
            (r#""a"#, None),
            (r#"""#, None),
        ] {
            assert_eq!(unquote(literal).as_deref(), text, "{literal}");
        }
    }

    #[test]
    fn bytes_and_characters_are_quoted_as_go_does() {
        assert_eq!(quote_bytes(b"a\xc5z\n"), r#""a\xc5z\n""#);
        assert_eq!(
            (quote_char('\''), quote_char('"'), quote_char('\n')),
            (r"'\''".into(), "'\"'".into(), r"'\n'".into())
        );
        assert_eq!((format_plain(1e21), format_plain(f64::INFINITY)), ("1000000000000000000000".into(), "+Inf".into()));
    }
}
