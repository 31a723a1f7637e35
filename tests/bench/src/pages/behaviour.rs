//! How the value of a series moves from one scrape to the next.

/// How many scrapes a counter keeps its rate.
const EPOCH_TICKS: u64 = 24;

/// By how many powers of two counters of a kind differ in their rates, and the rate below which none gets.
const RATE_SPREAD: f64 = 16.0;
const LOWEST_RATE: f64 = 0.1;

/// The share of the scrapes at which a gauge has moved.
const MOVES: f64 = 0.3;

/// Size of a memory page: byte gauges move in whole pages.
const PAGE_BYTES: f64 = 4096.0;

const NANOS: f64 = 1e9;

/// Unix time that the simulated clock starts at.
const CLOCK_START: f64 = 1_764_000_000.0;

/// The kind of change of one series. Rates and steps are per scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// Never changes.
    Constant(f64),
    /// An integer counter.
    Count(f64),
    /// A counter kept in hundredths, as the kernel's clock ticks are.
    Hundredths(f64),
    /// A counter kept in thousandths, as the kernel's disk times are.
    Thousandths(f64),
    /// A counter of time in nanoseconds.
    Seconds(f64),
    /// A byte gauge in multiples of 4096 that wanders by up to so many pages.
    Bytes(f64),
    /// An integer gauge that wanders around a mean.
    Level(f64),
    /// A gauge of hundredths that wanders around a mean, as a load average does.
    Load(f64),
    /// A duration measured anew at each scrape, in whole nanoseconds.
    Duration(f64),
    /// 1, and at times 0 for some scrapes: the share of the time that it is 0.
    Up(f64),
    /// A float gauge that wanders around a mean with all its digits.
    Walk(f64),
    /// Unix time in seconds, with its fraction.
    Clock,
    /// A bucket of a classic histogram: the observations that fall between the bound before and its own. Buckets of a
    /// histogram follow each other in the order of their bounds; `first` starts a new one.
    Bucket {
        /// Whether this is the lowest bucket.
        first: bool,
        /// Observations a scrape.
        rate: f64,
    },
    /// The `_sum` of the histogram whose buckets came before, with the mean of one observation.
    Sum(f64),
    /// The `_count` of the histogram whose buckets came before.
    Total,
}

/// What the series of a histogram hand on to the next one while a page is walked in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistogramCarry {
    observed: f64,
    cumulative: f64,
}

impl Behaviour {
    /// The state before the first scrape of the series that `key` stands for.
    pub(crate) fn start(self, key: u64) -> f64 {
        let unit = unit(key, 0, 1);
        match self {
            Self::Constant(value) => value,
            Self::Count(rate) | Self::Hundredths(rate) | Self::Thousandths(rate) => (rate * unit * 20_000.0).floor(),
            Self::Seconds(rate) => (rate * unit * 20_000.0 * NANOS).floor(),
            Self::Bytes(step) => (step * (20.0 + unit * 200.0)).floor(),
            Self::Level(mean) => (mean * (0.5 + unit)).round(),
            Self::Load(mean) => (mean * (0.5 + unit) * 100.0).round(),
            Self::Duration(mean) => (mean * (0.5 + unit) * NANOS).round(),
            Self::Walk(mean) => mean * (0.5 + unit),
            Self::Up(_) => 1.0,
            Self::Clock => CLOCK_START + (unit * 1e7).floor() / 1e7,
            Self::Bucket { rate, .. } => (rate * unit * 5_000.0).floor(),
            Self::Sum(mean) => mean * unit * 100_000.0,
            Self::Total => 0.0,
        }
    }

    /// The state at scrape `tick` (from 1), from the state at the scrape before.
    pub(crate) fn next(self, state: f64, key: u64, tick: u64, carry: &mut HistogramCarry) -> f64 {
        match self {
            Self::Constant(_) | Self::Total => state,
            Self::Count(rate) | Self::Hundredths(rate) | Self::Thousandths(rate) => {
                state + whole_increment(rate, key, tick)
            }
            Self::Seconds(rate) => state + whole_increment(rate * NANOS, key, tick),
            _ if self.may_rest() && unit(key, tick, 4) >= MOVES => state,
            Self::Bytes(step) => {
                let moved = ((unit(key, tick, 2) - 0.5) * 2.0 * step * activity(key).max(0.02)).round();
                (state + moved).clamp(0.0, step * 1_000.0)
            }
            Self::Level(mean) => {
                let pull = (mean - state) * 0.02;
                (state + pull + (unit(key, tick, 2) - 0.5) * mean.sqrt().max(2.0)).round().max(0.0)
            }
            Self::Load(mean) => {
                let pull = (mean * 100.0 - state) * 0.05;
                (state + pull + (unit(key, tick, 2) - 0.5) * mean * 20.0).round().max(0.0)
            }
            Self::Duration(mean) => {
                let slow = if unit(key, tick, 3) < 0.05 { 2.0 } else { 0.1 };
                (mean * NANOS * (0.8 + 0.4 * unit(key, 0, 1)) * (1.0 + slow * unit(key, tick, 2))).round()
            }
            Self::Walk(mean) => state + (mean - state) * 0.05 + (unit(key, tick, 2) - 0.5) * mean * 0.2,
            Self::Up(down) => f64::from(u8::from(unit(key, tick / EPOCH_TICKS, 3) >= down)),
            Self::Clock => state.floor() + 10.0 + (unit(key, tick, 2) * 1e7).floor() / 1e7,
            Self::Bucket { first, rate } => {
                let observed = whole_increment(rate, key, tick);
                carry.observed = if first { observed } else { carry.observed + observed };
                state + observed
            }
            Self::Sum(mean) => state + carry.observed * mean * (0.5 + unit(key, tick, 2)),
        }
    }

    /// Whether it stays as it is between most scrapes.
    fn may_rest(self) -> bool {
        matches!(self, Self::Bytes(_) | Self::Level(_) | Self::Load(_))
    }

    /// The value that the page shows for a state.
    pub(crate) fn shown(self, state: f64, carry: &mut HistogramCarry) -> f64 {
        match self {
            Self::Hundredths(_) | Self::Load(_) => state / 100.0,
            Self::Seconds(_) | Self::Duration(_) => state / NANOS,
            Self::Thousandths(_) => state / 1000.0,
            Self::Bytes(_) => state * PAGE_BYTES,
            Self::Bucket { first, .. } => {
                carry.cumulative = if first { state } else { carry.cumulative + state };
                carry.cumulative
            }
            Self::Total => carry.cumulative,
            Self::Constant(_) | Self::Count(_) | Self::Level(_) => state,
            Self::Walk(_) | Self::Up(_) | Self::Clock | Self::Sum(_) => state,
        }
    }
}

/// How lively a series is, up to 1: real machines have few busy disks and interfaces and many that are nearly idle.
fn activity(key: u64) -> f64 {
    (-RATE_SPREAD * unit(key, 0, 8)).exp2()
}

/// The rate of a counter changes every few scrapes, between a quarter and four times its mean, and at times it rests.
fn current_rate(rate: f64, key: u64, tick: u64) -> f64 {
    let draw = unit(key, tick / EPOCH_TICKS, 3);
    if draw < 0.05 { 0.0 } else { rate * (draw * 4.0 - 2.0).exp2() }
}

/// A whole increment whose mean is the current rate: small rates rest most of the time.
fn whole_increment(rate: f64, key: u64, tick: u64) -> f64 {
    let rate = (rate * activity(key)).max(rate.min(LOWEST_RATE));
    let mean = current_rate(rate, key, tick) * (0.7 + 0.6 * unit(key, tick, 4));
    (mean + unit(key, tick, 5)).floor()
}

/// Mixes two numbers into one that looks random (the finaliser of splitmix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `[0, 1)` that depends on nothing but its arguments.
pub(crate) fn unit(key: u64, tick: u64, salt: u64) -> f64 {
    (mix(key, tick.wrapping_mul(8).wrapping_add(salt)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(behaviour: Behaviour, ticks: u64) -> Vec<f64> {
        let mut state = behaviour.start(7);
        (1..=ticks)
            .map(|tick| {
                state = behaviour.next(state, 7, tick, &mut HistogramCarry::default());
                behaviour.shown(state, &mut HistogramCarry::default())
            })
            .collect()
    }

    #[test]
    fn counters_never_fall_and_do_move() {
        for counter in [
            Behaviour::Count(5.0),
            Behaviour::Hundredths(900.0),
            Behaviour::Thousandths(40.0),
            Behaviour::Seconds(0.3),
            Behaviour::Clock,
        ] {
            let values = run(counter, 200);
            assert!(values.windows(2).all(|w| w[1] >= w[0]), "{counter:?} fell: {values:?}");
            assert!(values[199] > values[0], "{counter:?} stood still");
        }
    }

    #[test]
    fn rates_of_counters_change() {
        let values = run(Behaviour::Count(1000.0), 480);
        let per_epoch: Vec<f64> = values.chunks(24).map(|c| c[23] - c[0]).collect();
        let (low, high) = per_epoch.iter().fold((f64::MAX, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(high > 4.0 * low, "{per_epoch:?}");
    }

    #[test]
    fn byte_gauges_are_whole_pages_of_memory() {
        let values = run(Behaviour::Bytes(50.0), 200);
        assert!(values.iter().all(|v| v % 4096.0 == 0.0 && *v >= 0.0), "{values:?}");
        assert!(values.windows(2).any(|w| w[1] < w[0]) && values.windows(2).any(|w| w[1] > w[0]));
    }

    #[test]
    fn decimal_counters_have_at_most_their_digits() {
        for (behaviour, scale) in [(Behaviour::Hundredths(900.0), 100.0), (Behaviour::Thousandths(40.0), 1000.0)] {
            for value in run(behaviour, 50) {
                assert_eq!((value * scale).round() / scale, value);
            }
        }
    }

    #[test]
    fn levels_stay_whole_and_near_their_mean() {
        let values = run(Behaviour::Level(40.0), 300);
        assert!(values.iter().all(|v| v.fract() == 0.0 && (10.0..100.0).contains(v)), "{values:?}");
    }
}
