use std::collections::BTreeMap;

/// A page in text 0.0.4, read the plain way: what the programs under test are held against shares no code with them.
#[derive(Debug, Default)]
pub struct Page {
    /// Series in the order of the page: labels with the name among them, and the value.
    pub samples: Vec<(BTreeMap<String, String>, f64)>,
    /// The type and the help text of each family.
    pub families: BTreeMap<String, (String, String)>,
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// When it is not well-formed.
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                page.families.entry(name.to_owned()).or_default().0 = kind.to_owned();
            } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                page.families.entry(name.to_owned()).or_default().1 = unescape(help);
            } else if !line.starts_with('#') {
                page.samples.push(sample(line).unwrap_or_else(|| panic!("no line of a page: {line}")));
            }
        }
        page
    }

    /// The value of the only series that has this name and these labels, whatever others it has.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let is =
            |series: &BTreeMap<String, String>, key: &str, value: &str| series.get(key).is_some_and(|v| v == value);
        let mut found = self.samples.iter().filter(|(series, _)| {
            is(series, "__name__", name) && labels.iter().all(|(key, value)| is(series, key, value))
        });
        let (_, value) = found.next()?;
        found.next().is_none().then_some(*value)
    }
}

fn sample(line: &str) -> Option<(BTreeMap<String, String>, f64)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = BTreeMap::from([("__name__".to_owned(), name.to_owned())]);
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, value) = rest.split_once("=\"")?;
            let end = closing_quote(value)?;
            labels.insert(label.to_owned(), unescape(&value[..end]));
            rest = &value[end + 1..];
        }
    }
    let value = rest.split_whitespace().next()?;
    Some((labels, value.parse().ok()?))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other @ ('\\' | '"')) => out.push(other),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_values_and_texts_are_read() {
        let page = Page::parse(
            "# HELP a it's \\\\ two\\nlines\n# TYPE a gauge\na 1\na{b=\"c\",d=\"}, \\\"\\\\\\n\",} -Inf 123\n# a comment\nb{} NaN\n",
        );
        assert_eq!(page.families["a"], ("gauge".to_owned(), "it's \\ two\nlines".to_owned()));
        assert_eq!(page.samples.len(), 3);
        assert_eq!(page.value("a", &[("b", "c"), ("d", "}, \"\\\n")]), Some(f64::NEG_INFINITY));
        assert!(page.value("b", &[]).is_some_and(f64::is_nan));
        assert_eq!((page.value("a", &[]), page.value("c", &[])), (None, None));
    }
}
