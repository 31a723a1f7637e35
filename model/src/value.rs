/// The NaN whose bits mark that a series has ended (`value.StaleNaN` upstream).
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The NaN that an ordinary "not a number" is normalised to (`value.NormalNaN` upstream).
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Whether `value` is a staleness marker. Compares bits: an ordinary NaN is a value like any other.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN.to_bits()
}
