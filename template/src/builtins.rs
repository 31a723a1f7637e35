//! The functions every template has.

use std::cmp::Ordering;

use crate::{Value, printf};

const NAMES: [&str; 18] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery", "eq", "ne",
    "lt", "le", "gt", "ge",
];

pub(crate) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls predefined function `name`; `and` and `or` are the caller's, for they stop early.
pub(crate) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let need = |n: usize| {
        if args.len() == n {
            Ok(())
        } else {
            Err(format!("wrong number of args for {name}: want {n} got {}", args.len()))
        }
    };
    match name {
        "not" => need(1).map(|()| Value::Bool(!args[0].is_true())),
        "len" => {
            need(1)?;
            args[0].len().map(|n| Value::Int(n as i64)).ok_or_else(|| format!("len of type {}", args[0].type_name()))
        }
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Value::from(printf::print(args))),
        "println" => Ok(Value::from(printf::println(args))),
        "printf" => match args.split_first() {
            Some((format, rest)) => Ok(Value::from(printf::printf(&format.to_string(), rest))),
            None => Err("wrong number of args for printf: want at least 1 got 0".to_owned()),
        },
        "html" => Ok(Value::from(html_escape(&printf::print(args)))),
        "js" => Ok(Value::from(js_escape(&printf::print(args)))),
        "urlquery" => Ok(Value::from(url_query_escape(&printf::print(args)))),
        "eq" => match args {
            [] | [_] => Err("missing argument for comparison".to_owned()),
            [first, rest @ ..] => {
                for other in rest {
                    if equal(first, other)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
        },
        "ne" => need(2).and_then(|()| equal(&args[0], &args[1])).map(|b| Value::Bool(!b)),
        "lt" | "le" | "gt" | "ge" => {
            need(2)?;
            let order = compare(&args[0], &args[1])?;
            Ok(Value::Bool(match name {
                "lt" => order == Some(Ordering::Less),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                "gt" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }))
        }
        other => Err(format!("function {} not defined", model::quote(other))),
    }
}

fn as_index(value: &Value, len: usize) -> Result<usize, String> {
    match value {
        Value::Int(i) if *i >= 0 && (*i as usize) <= len => Ok(*i as usize),
        Value::Int(i) => Err(format!("index out of range: {i}")),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(args: &[Value]) -> Result<Value, String> {
    let (first, keys) = args.split_first().ok_or("index of untyped nil")?;
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Map(map), Value::Str(name)) => map.get(&**name).cloned().unwrap_or(Value::Nil),
            (Value::Labels(labels), Value::Str(name)) => Value::text(labels.value(name)),
            (Value::Map(_) | Value::Labels(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()));
            }
            (Value::List(items), key) => {
                let at = as_index(key, items.len())?;
                items.get(at).cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Str(text), key) => {
                let at = as_index(key, text.len())?;
                let byte = text.as_bytes().get(at).ok_or_else(|| format!("index out of range: {at}"))?;
                Value::Int(i64::from(*byte))
            }
            (Value::Object(object), Value::Str(name)) => match object.get(name, &[]) {
                Some(result) => result?,
                None => Value::Nil,
            },
            (Value::Object(object), Value::Int(at)) => {
                let items =
                    object.elements().ok_or_else(|| format!("can't index item of type {}", object.type_name()))?;
                let at = as_index(&Value::Int(*at), items.len())?;
                items.get(at).cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let (first, bounds) = args.split_first().ok_or("slice of untyped nil")?;
    if bounds.len() > 2 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let len = first.len().ok_or_else(|| format!("can't slice item of type {}", first.type_name()))?;
    let from = bounds.first().map_or(Ok(0), |b| as_index(b, len))?;
    let to = bounds.get(1).map_or(Ok(len), |b| as_index(b, len))?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match first {
        Value::Str(text) => Ok(Value::from(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())),
        Value::List(items) => Ok(Value::List(items[from..to].into())),
        other => Err(format!("can't slice item of type {}", other.type_name())),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Object(_) | Value::List(_) | Value::Map(_) | Value::Labels(_), _) => {
            Err("non-comparable type".to_owned())
        }
        _ => compare(a, b).map(|o| o == Some(Ordering::Equal)),
    }
}

fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
        (
            Value::Int(_) | Value::Float(_) | Value::Str(_),
            Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Bool(_),
        )
        | (Value::Bool(_), Value::Int(_) | Value::Float(_) | Value::Str(_)) => {
            Err("incompatible types for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn html_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Escapes text for a URL's query, as Go's `url.QueryEscape`.
fn url_query_escape(text: &str) -> String {
    const KEEP: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    percent_encoding::utf8_percent_encode(text, &KEEP).to_string().replace(' ', "+")
}
