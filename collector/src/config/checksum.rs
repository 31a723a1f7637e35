use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::{Base, expand_pattern, list};

/// A number that changes with the text of a configuration file and of the rule and scrape configuration files that it names.
///
/// # Errors
/// When a file cannot be read or the configuration is no YAML.
pub fn checksum(path: &Path) -> Result<u128, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut hash = Xxh3::new();
    let config = read(path)?;
    hash.update(&config);
    let text = String::from_utf8_lossy(&config);
    let node = yaml::Node::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let base = Base { folder: path.parent().unwrap_or(Path::new("")).to_path_buf() };
    for key in ["rule_files", "scrape_config_files"] {
        let Some(patterns) = node.get(key) else { continue };
        for pattern in list(patterns, key).map_err(|e| format!("{}: {e}", path.display()))? {
            for file in expand_pattern(&base.join(pattern.as_str().unwrap_or_default())) {
                let content = read(&file)?;
                // lengths, so that no text can pass for the next file's name
                let sizes = [file.as_os_str().len(), content.len()].map(usize::to_le_bytes);
                hash.update(key.as_bytes());
                hash.update(&sizes.concat());
                hash.update(file.as_os_str().as_encoded_bytes());
                hash.update(&content);
            }
        }
    }
    Ok(hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let config = dir.path().join("p.yml");
        let mut seen = Vec::new();
        let mut check = |what: &str, changes: bool| {
            let now = checksum(&config).unwrap();
            assert_eq!(seen.contains(&now), !changes, "{what}");
            seen.push(now);
        };
        write("p.yml", "rule_files: ['*.rules', none.yml]\nscrape_config_files: [jobs.yml]\n");
        check("the first", true);
        check("nothing", false);
        write("a.rules", "");
        check("a rule file more", true);
        write("a.rules", "groups: []");
        check("its text", true);
        write("jobs.yml", "scrape_configs: []");
        check("a file with jobs", true);
        write("other.yml", "x");
        check("a file that is not named", false);
        std::fs::rename(dir.path().join("a.rules"), dir.path().join("b.rules")).unwrap();
        check("another name", true);
        write("p.yml", "rule_files: ['*.rules']\n");
        check("the configuration", true);
        write("p.yml", "rule_files: {");
        assert!(checksum(&config).is_err());
        std::fs::remove_file(&config).unwrap();
        assert!(checksum(&config).unwrap_err().contains("p.yml: No such file"));
    }
}
