//! Answers in XML, as values that can be taken apart like those in JSON: an element with others in it is an object, one with text is a
//! string, several of one name are a list. Attributes stand under `@name`, the text of an element that has some under `$`.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// Elements in each other; deeper ones are refused.
const MAX_DEPTH: usize = 64;

/// An element that is being read.
#[derive(Default)]
struct Open {
    name: String,
    children: Map<String, Value>,
    text: String,
}

/// The content of the outermost element.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let fault = |e: &dyn std::fmt::Display| format!("the answer is not the XML it should be: {e}");
    let mut reader = Reader::from_reader(bytes);
    let mut stack = vec![Open::default()];
    loop {
        match reader.read_event().map_err(|e| fault(&e))? {
            Event::Start(start) => {
                if stack.len() > MAX_DEPTH {
                    return Err(fault(&"elements are too deep in each other"));
                }
                stack.push(open(&start)?);
            }
            Event::Empty(start) => {
                let element = open(&start)?;
                close(&mut stack, element);
            }
            Event::End(_) => {
                let Some(element) = stack.pop().filter(|_| !stack.is_empty()) else {
                    return Err(fault(&"an element ends that has not begun"));
                };
                close(&mut stack, element);
            }
            Event::Text(text) => append(&mut stack, &text.decode().map_err(|e| fault(&e))?),
            Event::CData(text) => append(&mut stack, &text.decode().map_err(|e| fault(&e))?),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|e| fault(&e))?;
                let name = reference.decode().map_err(|e| fault(&e))?;
                let text = match character {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&name)
                        .ok_or_else(|| fault(&format!("unknown entity {name}")))?
                        .to_owned(),
                };
                append(&mut stack, &text);
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if stack.len() != 1 {
        return Err(fault(&"it ends too early"));
    }
    let root = stack.remove(0);
    root.children.into_iter().next().map(|(_, value)| value).ok_or_else(|| fault(&"it is empty"))
}

fn open(start: &BytesStart<'_>) -> Result<Open, String> {
    let local = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut children = Map::new();
    for attribute in start.attributes().flatten() {
        let value = attribute.unescape_value().map_err(|e| format!("the answer is not the XML it should be: {e}"))?;
        children.insert(format!("@{}", local(attribute.key.local_name().as_ref())), Value::String(value.into_owned()));
    }
    Ok(Open { name: local(start.local_name().as_ref()), children, text: String::new() })
}

fn append(stack: &mut [Open], text: &str) {
    if let Some(last) = stack.last_mut() {
        last.text.push_str(text);
    }
}

fn close(stack: &mut [Open], element: Open) {
    let Open { name, mut children, text } = element;
    let text = text.trim();
    let value = if children.is_empty() {
        Value::String(text.to_owned())
    } else {
        if !text.is_empty() {
            children.insert("$".to_owned(), Value::String(text.to_owned()));
        }
        Value::Object(children)
    };
    let Some(parent) = stack.last_mut() else { return };
    match parent.children.get_mut(&name) {
        None => {
            parent.children.insert(name, value);
        }
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

/// The elements under a value: all of a list, or the only one; none where there is nothing.
pub(super) fn elements(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        // an element without anything in it, where a list would be
        Value::String(text) if text.is_empty() => Vec::new(),
        only => vec![only],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_become_values() {
        let text = br#"<?xml version="1.0"?><r xmlns="u"><a>x &amp; y&#33;</a><l><i>1</i><i>2</i></l><l2><i/></l2><p enabled="true">80</p><!-- c --><e></e></r>"#;
        let value = parse(text).unwrap();
        assert_eq!(value["a"], "x & y!");
        assert_eq!(value["l"], json!({"i": ["1", "2"]}));
        assert_eq!(
            (elements(&value["l"]["i"]).len(), elements(&value["l2"]["i"]).len(), elements(&value["no"]).len()),
            (2, 0, 0)
        );
        assert_eq!(value["p"], json!({"@enabled": "true", "$": "80"}));
        assert_eq!(value["e"], "");
    }

    #[test]
    fn what_is_no_xml_is_a_fault() {
        for text in ["", "<a>", "<a></b>", "</a>", "nonsense", "<a>&nope;</a>", &"<a>".repeat(100)] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_panic(text in "[<>/a-c&;!\"= \\[\\]-]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
