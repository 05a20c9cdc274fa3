//! What the machine gives and what this process took of it.

use crate::clock::Stopwatch;
use riser_policy::cost::SquareProducts;
use std::fs;

/// Rows and columns of the product that shows the peak: 4 MiB each, far larger than what one pass multiplies.
const SIZE: usize = 1024;

/// Largest rate of f32 matrix products in GFLOP/s, all threads of the present pool together: the best of several.
pub(super) fn matrix_peak() -> f64 {
    let mut products = SquareProducts::new(SIZE);
    let rate = |_| {
        let watch = Stopwatch::start();
        let operations = products.run();
        operations / watch.seconds() / 1e9
    };
    (0..10).map(rate).fold(0.0, f64::max)
}

/// Most memory this process has held at a time, in MiB; `None` where the system does not say.
pub(super) fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Makes [`peak_memory`] count from now on, where the system can.
pub(super) fn forget_peak_memory() {
    // Where it is refused, the peak is that of the process so far: an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Processor time of all threads of this process so far, in seconds; `None` where the system does not say.
pub(super) fn processor_seconds() -> Option<f64> {
    // The kernel counts in hundredths of a second for every program (USER_HZ).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in the second field may hold blanks and ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}
