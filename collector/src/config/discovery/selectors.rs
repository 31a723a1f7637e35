//! The syntax of Kubernetes' field and label selectors.

/// Checks a field selector: `path=value`, `path==value` or `path!=value`, separated by commas; `\` escapes.
pub(super) fn check_fields(selector: &str) -> Result<(), String> {
    let mut term = String::new();
    let mut escaped = false;
    // the last term ends where the text does
    for c in selector.chars().chain([',']) {
        match c {
            ',' if !escaped => {
                if !term.is_empty() && !term.contains('=') {
                    return Err(format!("invalid selector: '{selector}'; can't understand '{term}'"));
                }
                term.clear();
            }
            _ => term.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    Ok(())
}

/// Checks a label selector: requirements such as `a`, `!a`, `a=b`, `a!=b`, `a in (b, c)`, `a notin (b)`, `a > 1`,
/// separated by commas.
pub(super) fn check_labels(selector: &str) -> Result<(), String> {
    if selector.trim().is_empty() {
        return Ok(());
    }
    split_requirements(selector).into_iter().try_for_each(|requirement| {
        check_requirement(requirement.trim())
            .map_err(|m| format!("unable to parse requirement: {m} in '{}'", requirement.trim()))
    })
}

/// At commas that do not stand in parentheses.
fn split_requirements(selector: &str) -> Vec<&str> {
    let mut depth = 0i32;
    selector
        .split(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth <= 0
        })
        .collect()
}

fn check_requirement(text: &str) -> Result<(), String> {
    if let Some(key) = text.strip_prefix('!') {
        return check_key(key.trim());
    }
    let end = text.find(|c: char| c.is_whitespace() || "=!<>()".contains(c)).unwrap_or(text.len());
    let (key, rest) = (&text[..end], text[end..].trim());
    check_key(key)?;
    if rest.is_empty() {
        return Ok(());
    }
    for operator in ["notin", "in"] {
        if let Some(set) = rest.strip_prefix(operator) {
            let values = set.trim().strip_prefix('(').and_then(|s| s.strip_suffix(')'));
            let values = values.ok_or_else(|| format!("expected values in parentheses after {operator}"))?;
            return values.split(',').try_for_each(|value| check_value(value.trim()));
        }
    }
    for operator in ["==", "!=", "="] {
        if let Some(value) = rest.strip_prefix(operator) {
            return check_value(value.trim());
        }
    }
    match rest.strip_prefix(['<', '>']) {
        Some(number) if number.trim().parse::<i64>().is_ok() => Ok(()),
        Some(_) => Err("expected an integer after < or >".into()),
        None => Err("expected one of = == != in notin < >".into()),
    }
}

/// An optional DNS name and a slash, then a name.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').unwrap_or(("x", key));
    let dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if prefix.is_empty() || prefix.len() > 253 || !prefix.chars().all(dns) || name.is_empty() || !is_name(name) {
        return Err(format!("'{key}' is not a label key"));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) { Ok(()) } else { Err(format!("'{value}' is not a label value")) }
}

/// At most 63 letters, digits, `-`, `_` and `.`; a letter or digit at either end.
fn is_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_selectors() {
        for (text, valid) in [
            ("", true),
            ("metadata.name=x", true),
            ("a==b,c!=d,", true),
            (r"a=b\,c", true),
            ("a", false),
            ("a=b,c", false),
            ("a-b", false),
        ] {
            assert_eq!(check_fields(text).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn label_selectors() {
        for (text, valid) in [
            ("", true),
            ("a", true),
            ("!a", true),
            ("a=b", true),
            ("a == b, c!=d", true),
            ("k8s.io/a in (b, c),d notin (e)", true),
            ("a=", true),
            ("a > 1", true),
            ("a > b", false),
            ("a in b", false),
            ("a in (b", false),
            ("a=b=c", false),
            ("a b", false),
            ("-a", false),
            ("A/b=c", false),
            ("=b", false),
            ("a,", false),
        ] {
            assert_eq!(check_labels(text).is_ok(), valid, "{text}");
        }
    }
}
