//! Exposition pages made up to look and move like those of real programs.
//!
//! The bytes of a page depend on its [`PageSpec`] and on the number of the scrape and on nothing else, so that every
//! program under measurement gets identical work. A page keeps the state of its series and its text but for the values,
//! so that the next scrape costs little more than formatting numbers.

mod application;
mod behaviour;
mod builder;
mod kube;
mod node;

pub(crate) use behaviour::{Behaviour, HistogramCarry, mix, unit};
use builder::Builder;

/// The kind of program that a page looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node exporter on a machine with many pods.
    Node,
    /// An instrumented web application with classic histograms.
    Application,
    /// A part of a kube-state-metrics page.
    Kube,
}

impl Kind {
    /// The kind of the target with this number: of ten, seven are nodes, two are applications, one is kube-state.
    #[must_use]
    pub fn of(target: usize) -> Self {
        match target % 10 {
            3 | 7 => Self::Application,
            9 => Self::Kube,
            _ => Self::Node,
        }
    }

    /// Its name, as a label value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Application => "application",
            Self::Kube => "kube",
        }
    }
}

/// Everything that the bytes of a page depend on, but for the number of the scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageSpec {
    /// The seed of a whole farm.
    pub seed: u64,
    /// What it looks like.
    pub kind: Kind,
    /// The number of the target.
    pub target: usize,
    /// How often the target has been replaced. Pages of another generation have other label values where those of a
    /// replaced program would (names of pods, instances).
    pub generation: u64,
    /// Number of series.
    pub series: usize,
    /// The share of the series, 0 to 1, that comes and goes.
    pub flapping: f64,
    /// The share of the lines, 0 to 1, that show another series than at the scrape before.
    pub moving: f64,
}

/// One series of a page.
struct Line {
    /// End of the `# HELP` and `# TYPE` lines before it; they start where the line before ended.
    comment_end: usize,
    /// End of its name and labels, with the space before the value.
    head_end: usize,
    behaviour: Behaviour,
    key: u64,
    flapping: bool,
}

/// A page between two scrapes.
pub struct Page {
    heads: String,
    lines: Vec<Line>,
    states: Vec<f64>,
    tick: u64,
    moving: f64,
    /// Of each line the scrape since which it shows the series that it does.
    since: Vec<u64>,
}

impl Page {
    /// The page at scrape 0.
    #[must_use]
    pub fn new(spec: &PageSpec) -> Self {
        let make = |scale| match spec.kind {
            Kind::Node => node::build(spec, scale),
            Kind::Application => application::build(spec, scale),
            Kind::Kube => kube::build(spec, scale),
        };
        // A page grows with the number of handlers or pods; what is missing then is filled with singles.
        let (none, one) = (make(0).len(), make(1).len());
        let scale = spec.series.saturating_sub(none) / (one - none);
        let mut builder: Builder = make(scale);
        match spec.kind {
            Kind::Node => node::fill(&mut builder, spec.series),
            Kind::Application => application::fill(&mut builder, spec.series),
            Kind::Kube => kube::fill(&mut builder, spec.series),
        }
        let seed = mix(mix(spec.seed, spec.target as u64), spec.generation);
        let (heads, ends) = builder.finish(spec.series);
        let lines: Vec<Line> = ends
            .into_iter()
            .enumerate()
            .map(|(number, (comment_end, head_end, behaviour))| {
                let key = mix(seed, number as u64 + 1);
                let flapping = unit(key, 0, 6) < spec.flapping;
                Line { comment_end, head_end, behaviour, key, flapping }
            })
            .collect();
        let states = lines.iter().map(|line| line.behaviour.start(line.key)).collect();
        let since = vec![0; lines.len()];
        Self { heads, lines, states, tick: 0, moving: spec.moving, since }
    }

    /// The number of the scrape that [`render`](Self::render) shows.
    #[must_use]
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// The labels of each series, the name as `__name__`, in the order of the page.
    pub(crate) fn labels(&self) -> Vec<Vec<(String, String)>> {
        self.lines.iter().map(|line| parse_labels(&self.heads[line.comment_end..line.head_end])).collect()
    }

    /// How each series moves, with its key, in the order of the page.
    pub(crate) fn behaviours(&self) -> impl Iterator<Item = (Behaviour, u64)> + '_ {
        self.lines.iter().map(|line| (line.behaviour, line.key))
    }

    /// Goes on to the next scrape.
    pub fn advance(&mut self) {
        self.tick += 1;
        let mut carry = HistogramCarry::default();
        for (line, state) in self.lines.iter().zip(&mut self.states) {
            *state = line.behaviour.next(*state, line.key, self.tick, &mut carry);
        }
        if self.moving > 0.0 {
            for (line, since) in self.lines.iter().zip(&mut self.since) {
                if unit(line.key, self.tick, 8) < self.moving {
                    *since = self.tick;
                }
            }
        }
    }

    /// Appends the page as text format 0.0.4 and returns how many samples it has.
    ///
    /// With `timestamps`, the time of the scrape in milliseconds, each line ends with a timestamp of its own some
    /// seconds before that, as of values that were gathered one by one.
    pub fn render(&self, timestamps: Option<i64>, out: &mut String) -> usize {
        let mut carry = HistogramCarry::default();
        let mut from = 0;
        let mut shown = 0;
        for ((line, state), since) in self.lines.iter().zip(&self.states).zip(&self.since) {
            let value = line.behaviour.shown(*state, &mut carry);
            if line.flapping && !present(line.key, self.tick) {
                out.push_str(&self.heads[from..line.comment_end]);
                from = line.head_end;
                continue;
            }
            let head = &self.heads[from..line.head_end];
            from = line.head_end;
            match head.strip_suffix("} ") {
                Some(labels) if *since > 0 => {
                    out.push_str(labels);
                    out.push_str(&format!(",since=\"{since}\"}} "));
                }
                _ => out.push_str(head),
            }
            model::format_float(value, out);
            if let Some(now) = timestamps {
                out.push(' ');
                out.push_str(&(now - (line.key % 5_000) as i64).to_string());
            }
            out.push('\n');
            shown += 1;
        }
        shown
    }
}

/// Labels of `NAME{LABEL="VALUE",...} `, as [`Builder`] writes it.
pub(crate) fn parse_labels(head: &str) -> Vec<(String, String)> {
    let head = head.trim_end();
    let (name, mut rest) = head.split_once('{').unwrap_or((head, "}"));
    let mut labels = vec![("__name__".to_owned(), name.to_owned())];
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut end = after.len();
        let mut escaped = false;
        for (at, c) in after.char_indices() {
            match c {
                'n' if escaped => value.push('\n'),
                _ if escaped => value.push(c),
                '\\' => {}
                '"' => {
                    end = at + 1;
                    break;
                }
                _ => value.push(c),
            }
            escaped = c == '\\' && !escaped;
        }
        labels.push((label.to_owned(), value));
        rest = after[end..].trim_start_matches(',');
    }
    labels
}

/// A series that comes and goes is there for about half of its periods of 4 to 15 scrapes.
fn present(key: u64, tick: u64) -> bool {
    unit(key, tick / (4 + key % 12), 7) < 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn spec(target: usize) -> PageSpec {
        PageSpec { seed: 1, kind: Kind::of(target), target, generation: 0, series: 1500, flapping: 0.0, moving: 0.0 }
    }

    fn text(page: &Page) -> String {
        let mut out = String::new();
        page.render(None, &mut out);
        out
    }

    fn at(spec: &PageSpec, tick: u64) -> String {
        let mut page = Page::new(spec);
        (0..tick).for_each(|_| page.advance());
        text(&page)
    }

    /// Series part and value of each sample line.
    fn samples(text: &str) -> Vec<(&str, f64)> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a space before the value");
                (series, model::parse_float(value).expect("a number"))
            })
            .collect()
    }

    #[test]
    fn labels_are_those_of_the_page() {
        for (head, expected) in [
            ("up ", vec![("__name__", "up")]),
            ("a{b=\"c\",d=\"\"} ", vec![("__name__", "a"), ("b", "c"), ("d", "")]),
            ("a{b=\"x\\\\y\\\"z\\n,{=}\",c=\"\\\\\"} ", vec![("__name__", "a"), ("b", "x\\y\"z\n,{=}"), ("c", "\\")]),
        ] {
            let labels = parse_labels(head);
            let found: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{head}");
        }
        for target in [0, 3, 9] {
            let page = Page::new(&spec(target));
            let all: std::collections::HashSet<_> = page.labels().into_iter().collect();
            assert_eq!(all.len(), 1500);
        }
    }

    #[test]
    fn lines_that_move_show_other_series() {
        let spec = PageSpec { moving: 0.01, ..spec(9) };
        let (before, after) = (at(&spec, 5), at(&spec, 6));
        let series =
            |text: &str| samples(text).iter().map(|s| s.0.to_owned()).collect::<std::collections::HashSet<_>>();
        let new = series(&after).difference(&series(&before)).count();
        assert!((5..30).contains(&new), "{new} of 1500 are new");
        assert_eq!((samples(&before).len(), series(&after).len()), (1500, 1500));
    }

    #[test]
    fn the_bytes_depend_on_target_generation_seed_and_scrape_only() {
        for target in [0, 3, 9] {
            let spec = spec(target);
            assert_eq!(at(&spec, 5), at(&spec, 5));
            assert_ne!(at(&spec, 5), at(&spec, 6));
            assert_ne!(at(&spec, 5), at(&PageSpec { seed: 2, ..spec }, 5));
            assert_ne!(at(&spec, 5), at(&PageSpec { target: target + 10, ..spec }, 5));
            assert_ne!(at(&spec, 5), at(&PageSpec { generation: 1, ..spec }, 5));
        }
    }

    #[test]
    fn a_page_has_the_number_of_series_asked_for_and_each_once() {
        for target in [0, 3, 9] {
            for series in [1, 10, 700, 1500, 1501, 5000] {
                let page = text(&Page::new(&PageSpec { series, ..spec(target) }));
                let samples = samples(&page);
                let distinct: std::collections::HashSet<_> = samples.iter().map(|s| s.0).collect();
                assert_eq!((samples.len(), distinct.len()), (series, series), "target {target}");
            }
        }
    }

    #[test]
    fn families_are_not_torn_apart_and_each_has_its_type() {
        for target in [0, 3, 9] {
            let page = text(&Page::new(&spec(target)));
            let mut typed = HashMap::new();
            let mut current = "";
            for line in page.lines() {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    current = rest.split(' ').next().unwrap();
                    assert_eq!(typed.insert(current, ()), None, "{current} twice");
                } else if !line.starts_with('#') {
                    let name = line.split(['{', ' ']).next().unwrap();
                    let suffix = name.strip_prefix(current).unwrap_or_else(|| panic!("{name} after {current}"));
                    assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{name} in {current}");
                }
            }
        }
    }

    #[test]
    fn about_forty_per_cent_of_the_series_stand_still() {
        let (mut still, mut all) = (0, 0);
        for target in 0..10 {
            let mut page = Page::new(&spec(target));
            let before = text(&page);
            let first = samples(&before);
            let mut changed = vec![false; first.len()];
            for _ in 0..30 {
                page.advance();
                for (flag, (now, then)) in changed.iter_mut().zip(samples(&text(&page)).iter().zip(&first)) {
                    *flag |= now.1 != then.1;
                }
            }
            still += changed.iter().filter(|c| !**c).count();
            all += changed.len();
        }
        let share = still as f64 / all as f64;
        assert!((0.35..0.47).contains(&share), "{share}");
    }

    #[test]
    fn histograms_are_cumulative_and_their_count_is_the_last_bucket() {
        let page = at(&spec(3), 20);
        let mut before = 0.0;
        let mut histograms = 0;
        for (series, value) in samples(&page) {
            if series.contains("_bucket{") {
                if series.contains("le=\"0.005\"") {
                    before = 0.0;
                }
                assert!(value >= before, "{series} {value} < {before}");
                before = value;
            } else if series.contains("http_request_duration_seconds_count{") {
                assert_eq!(value, before, "{series}");
                histograms += 1;
            }
        }
        assert!(histograms > 10, "{histograms} histograms");
    }

    #[test]
    fn flapping_series_come_and_go_and_the_others_stay() {
        let spec = PageSpec { flapping: 0.1, ..spec(0) };
        let mut page = Page::new(&spec);
        let mut seen: HashMap<String, usize> = HashMap::new();
        for _ in 0..60 {
            for (series, _) in samples(&text(&page)) {
                *seen.entry(series.to_owned()).or_default() += 1;
            }
            page.advance();
        }
        let steady = seen.values().filter(|n| **n == 60).count();
        assert!((1275..1425).contains(&steady), "{steady} of 1500 are always there");
        assert!(seen.values().any(|n| (10..50).contains(n)));
    }

    #[test]
    fn timestamps_lie_before_the_scrape_and_differ() {
        let mut out = String::new();
        Page::new(&spec(0)).render(Some(1_000_000), &mut out);
        let stamps: std::collections::HashSet<i64> = out
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| l.rsplit(' ').next().unwrap().parse().expect("milliseconds"))
            .collect();
        assert!(stamps.len() > 500 && stamps.iter().all(|s| (995_000..=1_000_000).contains(s)), "{}", stamps.len());
    }
}
