//! Patterns of paths, as Go's `filepath.Glob` knows them: `*`, `?` and `[a-z]` within a path's parts.

use std::path::{Path, PathBuf};

/// The paths that exist and match, sorted. One without special characters matches itself.
pub(super) fn glob(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        let mut next = Vec::new();
        for folder in found {
            if !part.contains(['*', '?', '[']) {
                next.push(folder.join(part));
                continue;
            }
            let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
            let names = crate::files::names_or_none(listed);
            next.extend(names.iter().filter(|n| matches(part.as_bytes(), n.as_bytes())).map(|n| folder.join(n)));
        }
        found = next;
    }
    found.retain(|p| p.exists());
    // a slash at the end is part of the paths that are shown
    if pattern.len() > 1 && pattern.ends_with('/') {
        for path in &mut found {
            path.push("");
        }
    }
    found
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([b'?', rest @ ..], [_, tail @ ..]) => matches(rest, tail),
        ([b'[', rest @ ..], [first, tail @ ..]) => {
            let Some(end) = rest.iter().skip(1).position(|b| *b == b']').map(|at| at + 1) else { return false };
            let (negated, class) = match &rest[..end] {
                [b'^', class @ ..] => (true, class),
                class => (false, class),
            };
            let mut inside = false;
            let mut at = 0;
            while at < class.len() {
                match class[at..] {
                    [from, b'-', to, ..] => {
                        inside |= (from..=to).contains(first);
                        at += 3;
                    }
                    [one, ..] => {
                        inside |= one == *first;
                        at += 1;
                    }
                    [] => {}
                }
            }
            inside != negated && matches(&rest[end + 1..], tail)
        }
        ([one, rest @ ..], [first, tail @ ..]) => one == first && matches(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_matched() {
        for (pattern, name, expected) in [
            ("*_x", "a_x", true),
            ("*_x", "a_y", false),
            ("a?c", "abc", true),
            ("[a-c]1", "b1", true),
            ("[^a-c]1", "b1", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
