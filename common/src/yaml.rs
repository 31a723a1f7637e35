//! Configuration files: strict YAML with the place of every error.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The text is no YAML, or not of the expected shape.
    #[error("{file}:{line}:{column}: {message}")]
    Parse {
        /// The file's name.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
}

/// Parses a document. `file` is its name in errors. A document without content is an empty mapping.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, YamlError> {
    yaml::from_str(text).map_err(|error| YamlError::Parse {
        file: file.to_owned(),
        line: error.line as u64,
        column: error.column as u64,
        message: error.message,
    })
}

/// Reads and parses a file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, YamlError> {
    let text = std::fs::read_to_string(path).map_err(|error| YamlError::Read { path: path.to_owned(), error })?;
    parse(&text, &path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        name: String,
        count: u32,
        on: bool,
        list: Vec<String>,
    }

    #[test]
    fn documents_are_read() {
        let config: Config = parse("name: 12\ncount: 3\non: true\nlist: [a, 1]\n", "x.yml").unwrap();
        assert_eq!(config, Config { name: "12".into(), count: 3, on: true, list: vec!["a".into(), "1".into()] });
        for empty in ["", "# only a comment\n", "---\n"] {
            assert_eq!(parse::<Config>(empty, "x.yml").unwrap(), Config::default(), "{empty:?}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        for (text, expected) in [
            ("name: a\ncuont: 3\n", "x.yml:2:1: field cuont not found in type Config"),
            ("name: a\nname: b\n", "x.yml:2:1: "),
            ("count: many\n", "x.yml:1:8: "),
            ("name: [\n", "x.yml:"),
        ] {
            let error = parse::<Config>(text, "x.yml").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
