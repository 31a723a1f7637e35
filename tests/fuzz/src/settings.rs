//! Files that people write: configuration, rules, web configuration. They are read whole, or the error names a place.

use std::path::{Path, PathBuf};

use collector::config::{Config, LoadOptions};
use collector::rules::file::{RuleOptions, read};
use common::http::WebConfig;

use crate::{Target, kind_of, no_seeds};

pub(crate) const CONFIG: Target = Target {
    name: "config",
    run: |input| {
        text(input, |text| {
            let options = LoadOptions { skip_scrape_config_files: true, ..LoadOptions::default() };
            Config::parse(text, Path::new("config"), PathBuf::from("/nowhere"), options)
                .map(|config| config.scrape_configs.len())
                .map_err(|error| error.to_string())
        })
    },
    words: &[
        "global:\n",
        "scrape_configs:\n",
        "- job_name: a\n",
        "  static_configs:\n",
        "  - targets: [a]\n",
        "relabel_configs:\n",
        "regex: (.*)\n",
        "action: replace\n",
        "source_labels: [a]\n",
        "scrape_interval: 1m\n",
        "remote_write:\n",
        "url: http://a\n",
        "basic_auth:\n",
        "tls_config:\n",
        "storage:\n",
        "*a",
        "&a",
        "<<: ",
        "? ",
        "- ",
        "{",
        "[",
        "|",
        ">",
        "!!str ",
        "---\n",
        "~",
    ],
    seeds: no_seeds,
};

pub(crate) const RULES: Target = Target {
    name: "rules",
    run: |input| {
        text(input, |text| {
            let node = yaml::Node::parse(text).map_err(|error| error.to_string())?;
            read(&node, &RuleOptions::default()).map(|groups| groups.len()).map_err(|faults| {
                assert!(!faults.is_empty(), "refused without a reason");
                faults[0].clone()
            })
        })
    },
    words: &[
        "groups:\n",
        "- name: a\n",
        "  rules:\n",
        "  - record: a\n",
        "  - alert: a\n",
        "    expr: ",
        "    for: 1m\n",
        "    labels: {a: b}\n",
        "    annotations:\n",
        "{{ $value }}",
        "{{ range query \"up\" }}{{ end }}",
        "{{ if ",
        "}}",
        "interval: 1s\n",
        "limit: -1\n",
        "&a",
        "*a",
        "<<: *a\n",
        "|\n",
        "!!int ",
    ],
    seeds: no_seeds,
};

pub(crate) const WEB_CONFIG: Target = Target {
    name: "web_config",
    run: |input| {
        text(input, |text| {
            WebConfig::parse(text, Path::new("/nowhere/web.yml"))
                .map(|config| config.basic_auth_users.len())
                .map_err(|error| error.to_string())
        })
    },
    words: &[
        "tls_server_config:\n",
        "  cert_file: a\n",
        "  key_file: a\n",
        "  client_auth_type: RequireAndVerifyClientCert\n",
        "  min_version: TLS12\n",
        "http_server_config:\n",
        "  http2: true\n",
        "  headers:\n",
        "X-Frame-Options: deny\n",
        "basic_auth_users:\n",
        "  a: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n",
        "cipher_suites: [",
        "rate_limit:\n",
    ],
    seeds: no_seeds,
};

fn text(input: &[u8], read: impl Fn(&str) -> Result<usize, String>) -> u64 {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    match read(text) {
        Ok(count) => 1 + count.min(8) as u64,
        Err(error) => {
            assert!(!error.is_empty(), "refused without a reason");
            kind_of(&error)
        }
    }
}
