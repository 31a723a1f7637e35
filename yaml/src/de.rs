//! serde over the tree. Scalars keep their text until the target type says what they should be.

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::{Error, Kind, Node};

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { line: 0, column: 0, message: message.to_string() }
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self::custom(format!("field {field} not found"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("missing field {field}"))
    }
}

impl Error {
    /// The place, unless a deeper one is known.
    fn or_at(mut self, node: &Node) -> Self {
        if self.line == 0 {
            (self.line, self.column) = (node.line, node.column);
        }
        self
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn parse_int(text: &str) -> Option<i128> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let starts_with_digit = digits.starts_with(|c: char| c.is_ascii_digit());
    let radix = |prefix, radix| digits.strip_prefix(prefix).map(|d| i128::from_str_radix(d, radix).ok());
    let value = radix("0x", 16)
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0o", 8))
        .or_else(|| digits.strip_prefix('0').filter(|d| !d.is_empty()).map(|d| i128::from_str_radix(d, 8).ok()))
        .unwrap_or_else(|| digits.parse().ok());
    value.filter(|_| starts_with_digit).map(|v| if negative { -v } else { v })
}

fn parse_float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && text.contains(|c: char| c.is_ascii_digit()) =>
        {
            text.replace('_', "").parse().ok()
        }
        _ => None,
    }
}

impl Node {
    /// Whether a plain scalar reads as something else than text.
    pub(crate) fn is_typed(&self) -> bool {
        let text = self.as_str().unwrap_or_default();
        self.is_null() || parse_bool(text).is_some() || parse_int(text).is_some() || parse_float(text).is_some()
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T, Error> {
        Err(self.error(format!("cannot unmarshal {} into {wanted}", self.describe())))
    }

    fn integer(&self) -> Result<i128, Error> {
        if self.is_null() {
            return Ok(0);
        }
        let Kind::Scalar { text, plain: true } = &self.kind else { return self.wrong("an integer") };
        // `1e3` and `4.0` are integers too where one is wanted
        let whole = |f: f64| (f.fract() == 0.0 && f.abs() < 1e18).then_some(f as i128);
        match parse_int(text).or_else(|| parse_float(text).and_then(whole)) {
            Some(value) => Ok(value),
            None => self.wrong("an integer"),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match <$type>::try_from(self.integer()?) {
                Ok(value) => visitor.$visit(value).map_err(|e: Error| e.or_at(self)),
                Err(_) => self.wrong(concat!("an integer of type ", stringify!($type))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Sequence(_) => self.deserialize_seq(visitor),
            Kind::Mapping(_) => self.deserialize_map(visitor),
            Kind::Binary(bytes) => visitor.visit_borrowed_bytes(bytes).map_err(|e: Error| e.or_at(self)),
            Kind::Scalar { text, plain } => {
                let result = if self.is_null() {
                    visitor.visit_unit()
                } else if !plain {
                    visitor.visit_borrowed_str(text)
                } else if let (Some(b), true) = (parse_bool(text), text.len() > 1) {
                    visitor.visit_bool(b)
                } else if let Some(i) = parse_int(text).and_then(|i| i64::try_from(i).ok()) {
                    visitor.visit_i64(i)
                } else if let Some(f) = parse_float(text) {
                    visitor.visit_f64(f)
                } else {
                    visitor.visit_borrowed_str(text)
                };
                result.map_err(|e: Error| e.or_at(self))
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match &self.kind {
            _ if self.is_null() => Some(false),
            Kind::Scalar { text, plain: true } => parse_bool(text),
            _ => None,
        };
        match value {
            Some(value) => visitor.visit_bool(value).map_err(|e: Error| e.or_at(self)),
            None => self.wrong("bool"),
        }
    }

    integers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match &self.kind {
            _ if self.is_null() => Some(0.0),
            Kind::Scalar { text, plain: true } => parse_int(text).map(|i| i as f64).or_else(|| parse_float(text)),
            _ => None,
        };
        match value {
            Some(value) => visitor.visit_f64(value).map_err(|e: Error| e.or_at(self)),
            None => self.wrong("a number"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            _ if self.is_null() => visitor.visit_borrowed_str("").map_err(|e: Error| e.or_at(self)),
            Kind::Scalar { text, .. } => visitor.visit_borrowed_str(text).map_err(|e: Error| e.or_at(self)),
            Kind::Binary(_) => Err(self.error("!!binary value is not UTF-8 text")),
            _ => self.wrong("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) };
        result.map_err(|e: Error| e.or_at(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self).map_err(|e: Error| e.or_at(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = match &self.kind {
            Kind::Sequence(items) => items.as_slice(),
            _ if self.is_null() => &[],
            _ => return self.wrong("a list"),
        };
        visitor.visit_seq(Items { rest: items.iter() }).map_err(|e: Error| e.or_at(self))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = match &self.kind {
            Kind::Mapping(entries) => entries.as_slice(),
            _ if self.is_null() => &[],
            _ => return self.wrong("a mapping"),
        };
        visitor
            .visit_map(Entries { rest: entries.iter(), value: None, skip_nulls: false })
            .map_err(|e: Error| e.or_at(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = match &self.kind {
            Kind::Mapping(entries) => entries.as_slice(),
            _ if self.is_null() => &[],
            _ => return self.wrong(name),
        };
        // the unknown key itself is the place to name, and its struct
        if let Some((key, _)) = entries.iter().find(|(k, _)| !k.as_str().is_some_and(|k| fields.contains(&k)))
            && !fields.is_empty()
        {
            let field = key.as_str().unwrap_or_default();
            return Err(key.error(format!("field {field} not found in type {name}")));
        }
        // null leaves the default, as in Go
        visitor
            .visit_map(Entries { rest: entries.iter(), value: None, skip_nulls: true })
            .map_err(|e: Error| e.or_at(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Scalar { text, .. } => {
                let text: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                visitor.visit_enum(text).map_err(|e: Error| e.or_at(self))
            }
            _ => self.wrong("a word"),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_unit() } else { self.wrong("nothing") }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Binary(bytes) => visitor.visit_borrowed_bytes(bytes).map_err(|e: Error| e.or_at(self)),
            _ => self.deserialize_str(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! { i128 u128 char unit_struct tuple tuple_struct }
}

impl<'de> IntoDeserializer<'de, Error> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<'de> {
    rest: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.rest.next().map(|node| seed.deserialize(node).map_err(|e| e.or_at(node))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Node, Node)>,
    value: Option<&'de Node>,
    skip_nulls: bool,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        for (key, value) in self.rest.by_ref() {
            if self.skip_nulls && value.is_null() {
                continue;
            }
            self.value = Some(value);
            return seed.deserialize(key).map(Some).map_err(|e| e.or_at(key));
        }
        Ok(None)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let node = self.value.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(node).map_err(|e| e.or_at(node))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        name: String,
        count: u32,
        on: bool,
        ratio: f64,
        list: Vec<String>,
        inner: Option<Box<Section>>,
        labels: BTreeMap<String, String>,
    }

    fn read(text: &str) -> Result<Section, String> {
        crate::from_str(text).map_err(|e: Error| e.to_string())
    }

    #[test]
    fn scalars_become_what_the_target_wants() {
        let section = read(
            "name: 0123\ncount: 0x10\non: yes\nratio: 3\nlist: [1.10, true, ~, 'x y']\nlabels: {a: 1.0, b: no}\ninner:\n  name: |\n    two\n    lines\n",
        )
        .unwrap();
        assert_eq!(section.name, "0123");
        assert_eq!((section.count, section.on, section.ratio), (16, true, 3.0));
        assert_eq!(section.list, ["1.10", "true", "", "x y"]);
        assert_eq!(section.labels["a"], "1.0");
        assert_eq!(section.labels["b"], "no");
        assert_eq!(section.inner.unwrap().name, "two\nlines\n");
    }

    #[test]
    fn null_leaves_the_default() {
        assert_eq!(read("name:\ncount: ~\ninner: null\nlist:\n"), Ok(Section::default()));
        assert_eq!(read(""), Ok(Section::default()));
        assert_eq!(read("# only a comment\n"), Ok(Section::default()));
    }

    #[test]
    fn binary_data_are_bytes() {
        struct Bytes(Vec<u8>);
        impl<'de> Deserialize<'de> for Bytes {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = Bytes;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("bytes")
                    }
                    fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                        Ok(Bytes(text.into()))
                    }
                    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                        Ok(Bytes(bytes.into()))
                    }
                }
                deserializer.deserialize_bytes(Reader)
            }
        }
        let text = "a: !!binary AAAACATSFi8=\nb: plain\nc: !!binary aGk=\n";
        let map: BTreeMap<String, Bytes> = crate::from_str(text).unwrap();
        assert_eq!(map["a"].0, [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]);
        assert_eq!((map["b"].0.as_slice(), map["c"].0.as_slice()), (&b"plain"[..], &b"hi"[..]));
        let node = Node::parse(text).unwrap();
        assert!(node.to_yaml().starts_with("a: !!binary \"AAAACATSFi8=\"\n"), "{}", node.to_yaml());
        assert_eq!(read("name: !!binary /w==\n").unwrap_err(), "line 1: !!binary value is not UTF-8 text");
    }

    #[test]
    fn anchors_and_merges() {
        let section = read("inner: &i {name: a, count: 1}\n").unwrap();
        assert_eq!(section.inner.unwrap().count, 1);
        let map: BTreeMap<String, Section> =
            crate::from_str("base: &b {name: a, count: 1}\nmore:\n  <<: *b\n  count: 2\n").unwrap();
        assert_eq!((map["more"].name.as_str(), map["more"].count), ("a", 2));
    }

    #[test]
    fn faults_name_line_and_field() {
        for (text, expected) in [
            ("name: a\nnope: 1\n", "line 2: field nope not found in type Section"),
            ("inner:\n  inner:\n    nope: 1\n", "line 3: field nope not found in type Section"),
            ("name: a\nname: b\n", "line 2: key \"name\" already set in map"),
            ("count: many\n", "line 1: cannot unmarshal `many` into an integer"),
            ("count: -1\n", "line 1: cannot unmarshal `-1` into an integer of type u32"),
            ("\non: maybe\n", "line 2: cannot unmarshal `maybe` into bool"),
            ("list: {a: b}\n", "line 1: cannot unmarshal a mapping into a list"),
            ("- a\n", "line 1: cannot unmarshal a list into Section"),
            ("a: b\n---\nc: d\n", "line 3: only one document is expected"),
            ("name: !!binary \"a_b\"\n", "line 1: !!binary value contains invalid base64 data"),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()), "{text}");
        }
        assert!(read("name: [a\n").unwrap_err().starts_with("line "));
    }

    #[test]
    fn untyped_values_keep_their_kind() {
        let value: serde_json::Value = crate::from_str("{a: 1, b: 1.5, c: yes, d: 'yes', e: [x], f: ~}").unwrap();
        assert_eq!(value.to_string(), r#"{"a":1,"b":1.5,"c":true,"d":"yes","e":["x"],"f":null}"#);
    }

    #[test]
    fn written_trees_read_back() {
        let text = "a: [1, 'yes', \"x: y\", [], {}]\nb:\n  c: {d: [{e: f, g: 'h\\n'}, z]}\n  'k 1': \"l\\nm\"\n";
        let node = Node::parse(text).unwrap();
        let shown = node.to_yaml();
        let again: serde_json::Value = crate::from_str(&shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
        assert_eq!(again, node.read::<serde_json::Value>().unwrap(), "{shown}");
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")));
        }
        assert!(Node::parse(&text).unwrap_err().message.contains("excessive aliasing"));
        assert!(Node::parse(&"[".repeat(10_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([a-c]: |- |\\[|\\]|\\{|\\}|\n|  |'|\"|&a |\\*a|<<: |!!binary |\\PC){0,60}") {
            let _ = crate::from_str::<serde_json::Value>(&text);
        }
    }
}
