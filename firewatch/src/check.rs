//! `firewatch check`: promtool's checks with promtool's exit codes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use collector::config::{Config, LoadOptions, expand_pattern};
use collector::rules::file::{GroupSpec, RuleKind, RuleOptions, load, read};
use common::http::WebConfig;
use promql::Features;

/// promtool's exit code for lint findings with `--lint-fatal`.
const LINT: u8 = 3;

#[derive(Subcommand)]
pub(crate) enum What {
    /// Check configuration files, and the rule files they name.
    Config(ConfigArguments),
    /// Check rule files and PrometheusRule manifests.
    Rules(RulesArguments),
    /// Check configuration files of the blackbox exporter.
    Blackbox {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check web configuration files, certificates included.
    WebConfig {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ConfigArguments {
    /// Check the files alone, not what they name.
    #[arg(long)]
    syntax_only: bool,
    /// Check for agent mode.
    #[arg(long)]
    agent: bool,
    #[command(flatten)]
    lint: LintArguments,
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RulesArguments {
    #[command(flatten)]
    lint: LintArguments,
    /// Pass over fields that are not known.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Features of PromQL to be on, as for the server.
    #[arg(long, value_delimiter = ',')]
    enable_feature: Vec<String>,
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct LintArguments {
    /// What to look for: all, duplicate-rules, none.
    #[arg(long, default_value = "duplicate-rules")]
    lint: String,
    /// Make findings errors (exit code 3).
    #[arg(long)]
    lint_fatal: bool,
}

/// What a check has found so far.
#[derive(Default)]
struct Outcome {
    failed: bool,
    lint: bool,
}

impl Outcome {
    fn exit_code(&self, lint: &LintArguments) -> ExitCode {
        match (self.failed, self.lint && lint.lint_fatal) {
            (true, _) => ExitCode::FAILURE,
            (false, true) => ExitCode::from(LINT),
            (false, false) => ExitCode::SUCCESS,
        }
    }

    fn fail(&mut self, faults: &[String]) {
        self.failed = true;
        eprintln!("  FAILED:");
        for fault in faults {
            eprintln!("    {fault}");
        }
    }
}

/// Runs a check.
pub(crate) fn run(what: &What) -> ExitCode {
    match what {
        What::Config(arguments) => config(arguments),
        What::Rules(arguments) => rules(arguments),
        What::Blackbox { files } => blackbox(files),
        What::WebConfig { files } => web_config(files),
    }
}

fn config(arguments: &ConfigArguments) -> ExitCode {
    let mut outcome = Outcome::default();
    for file in &arguments.files {
        println!("Checking {}", file.display());
        let options = LoadOptions {
            agent: arguments.agent,
            skip_scrape_config_files: arguments.syntax_only,
            ..LoadOptions::default()
        };
        let config = match Config::load(file, options) {
            Ok(config) => config,
            Err(error) => {
                outcome.fail(&[error.to_string()]);
                continue;
            }
        };
        for name in &config.unsupported {
            println!("  WARNING: {name}: the file is right, but this version of Firewatch does not have it");
        }
        println!(" SUCCESS: {} is valid prometheus config file syntax\n", file.display());
        if arguments.syntax_only {
            continue;
        }
        let rule_files: Vec<PathBuf> = config.rule_files.iter().flat_map(|p| expand_pattern(p)).collect();
        let missing =
            config.rule_files.iter().filter(|p| !p.to_string_lossy().contains(['*', '?', '[']) && !p.exists());
        for path in missing {
            outcome.fail(&[format!("{} does not point to an existing file", model_quote(path))]);
        }
        for path in rule_files {
            check_rules(&path, &RuleOptions::default(), &arguments.lint, &mut outcome);
        }
    }
    outcome.exit_code(&arguments.lint)
}

fn model_quote(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn rules(arguments: &RulesArguments) -> ExitCode {
    let mut outcome = Outcome::default();
    let mut options = RuleOptions { ignore_unknown_fields: arguments.ignore_unknown_fields, ..RuleOptions::default() };
    for name in &arguments.enable_feature {
        match features(name, options.features) {
            Some(features) => options.features = features,
            None => {
                eprintln!("firewatch: unknown feature {name:?}");
                return ExitCode::FAILURE;
            }
        }
    }
    for file in &arguments.files {
        check_rules(file, &options, &arguments.lint, &mut outcome);
    }
    outcome.exit_code(&arguments.lint)
}

fn features(name: &str, mut features: Features) -> Option<Features> {
    match name {
        "promql-experimental-functions" => features.experimental_functions = true,
        "promql-extended-range-selectors" => features.extended_range_selectors = true,
        "promql-binop-fill-modifiers" => features.binop_fill_modifiers = true,
        "promql-duration-expr" | "promql-delayed-name-removal" | "promql-per-step-stats" => {}
        _ => return None,
    }
    Some(features)
}

fn check_rules(file: &Path, options: &RuleOptions, lint: &LintArguments, outcome: &mut Outcome) {
    println!("Checking {}", file.display());
    match load_rules(file, options) {
        Err(faults) => outcome.fail(&faults),
        Ok(groups) => {
            let count: usize = groups.iter().map(|group| group.rules.len()).sum();
            let found = if lint.lint == "none" { Vec::new() } else { duplicates(&groups) };
            if !found.is_empty() {
                outcome.lint = true;
                println!("  {} duplicate rule(s) found.", found.len());
                for (name, labels) in &found {
                    println!("  Metric: {name}\n  Label(s):");
                    for (label, value) in labels {
                        println!("    {label}: {value}");
                    }
                }
                println!("  Might cause inconsistency while recording expressions");
            }
            println!("  SUCCESS: {count} rules found\n");
        }
    }
}

/// Reads a rule file, or the rules of a PrometheusRule manifest.
fn load_rules(file: &Path, options: &RuleOptions) -> Result<Vec<GroupSpec>, Vec<String>> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|e| vec![format!("open {name}: {e}")])?;
    let is_manifest = |node: &yaml::Node| node.get("kind").and_then(yaml::Node::as_str) == Some("PrometheusRule");
    match yaml::Node::parse_documents(&text, yaml::Limits::default()) {
        Ok(documents) if documents.iter().any(is_manifest) => {
            let mut groups = Vec::new();
            for document in documents.iter().filter(|d| is_manifest(d)) {
                let Some(spec) = document.get("spec") else { continue };
                groups.extend(
                    read(spec, options).map_err(|f| f.iter().map(|f| format!("{name}: {f}")).collect::<Vec<_>>())?,
                );
            }
            Ok(groups)
        }
        _ => load(file, options),
    }
}

/// Names and labels that stand in more than one rule.
fn duplicates(groups: &[GroupSpec]) -> Vec<(String, BTreeMap<String, String>)> {
    let mut seen: BTreeMap<(bool, String, BTreeMap<String, String>), usize> = BTreeMap::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        let records = matches!(rule.kind, RuleKind::Recording { .. });
        *seen.entry((records, rule.name().to_owned(), rule.labels.clone())).or_default() += 1;
    }
    seen.into_iter().filter(|(_, count)| *count > 1).map(|((_, name, labels), _)| (name, labels)).collect()
}

fn blackbox(files: &[PathBuf]) -> ExitCode {
    let mut outcome = Outcome::default();
    for file in files {
        println!("Checking {}", file.display());
        match blackbox_exporter::Config::load(file) {
            Ok(config) => println!(" SUCCESS: {} modules found\n", config.module_names().count()),
            Err(error) => outcome.fail(&[error.to_string()]),
        }
    }
    if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn web_config(files: &[PathBuf]) -> ExitCode {
    let mut outcome = Outcome::default();
    for file in files {
        match WebConfig::validate(file) {
            Ok(()) => println!("{} SUCCESS", file.display()),
            Err(error) => {
                eprintln!("{} FAILED: {error}", file.display());
                outcome.failed = true;
            }
        }
    }
    if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
