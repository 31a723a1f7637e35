//! Loads the data of a seed into both servers and asks them for expressions: `ask SEED EXPRESSION TIME`, or
//! `ask SEED EXPRESSION START END STEP`, times in milliseconds as the fuzzer prints them. Needs `FIREWATCH_PEERS`.

use conformance::compare::{Rules, compare};
use conformance::data;
use conformance::pair::{Pair, Query};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> i64 { arguments[at].parse().expect("a number") };
    let query = match arguments.len() {
        3 => Query::Instant(number(2)),
        5 => Query::Range(number(2), number(3), number(4)),
        _ => panic!("ask SEED EXPRESSION TIME, or ask SEED EXPRESSION START END STEP"),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(pair) = Pair::start(folder.path()) else { return };
    pair.load(&data::generate(number(0).cast_unsigned()));
    for expr in arguments[1].split(';') {
        let (ours, theirs) = pair.ask(expr, query);
        println!("{expr}\nours:   {ours}\ntheirs: {theirs}");
        for difference in compare(&ours, &theirs, Rules::default()) {
            println!("{}: {}", difference.what.as_str(), difference.detail);
        }
    }
}
