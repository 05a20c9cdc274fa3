//! A thread on which the system answers from the seed and the simulated time: entropy, which orders hash maps and the
//! branches of `select!`, and the clocks, which libraries below us read.
//!
//! The program's own definitions of two functions of libc take the place of those in the library; for all other threads
//! they ask the kernel.

#![expect(unsafe_code, reason = "two functions of libc are replaced")]

use std::{
    cell::Cell,
    ffi::{c_int, c_long, c_uint, c_void},
    time::Duration,
};

thread_local! {
    static SIMULATED: Cell<Option<Answers>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Answers {
    entropy: u64,
    now: Duration,
}

/// From now on the calling thread is told what `seed` says.
pub(crate) fn simulate(seed: u64) {
    SIMULATED.set(Some(Answers { entropy: seed, now: Duration::ZERO }));
    fastrand::seed(seed);
}

/// Sets the clocks of the calling thread.
pub(crate) fn set_clocks(now: Duration) {
    SIMULATED.set(SIMULATED.get().map(|answers| Answers { now, ..answers }));
}

/// What the clocks of the calling thread say.
pub(crate) fn now() -> Duration {
    SIMULATED.get().map_or(Duration::ZERO, |answers| answers.now)
}

/// The next eight bytes, by SplitMix64.
fn next(entropy: &mut u64) -> [u8; 8] {
    *entropy = entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *entropy;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).to_le_bytes()
}

/// In place of libc's; the standard library looks it up by this name.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Some(mut answers) = SIMULATED.get() else {
        // SAFETY: the arguments are the caller's own, whose duty it is that they fit this system call.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    };
    // SAFETY: the caller says that `buffer` has room for `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&next(&mut answers.entropy)[..part.len()]);
    }
    SIMULATED.set(Some(answers));
    length as isize
}

/// In place of libc's; the standard library looks it up by this name.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: c_int, out: *mut libc::timespec) -> c_int {
    let Some(answers) = SIMULATED.get() else {
        // SAFETY: as above.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, out) as c_int };
    };
    /// Seconds on every clock at the start, so that subtracting a while gives a time.
    const START: c_long = 1_000_000_000;
    let time = libc::timespec {
        tv_sec: START + answers.now.as_secs().cast_signed(),
        tv_nsec: answers.now.subsec_nanos().into(),
    };
    // SAFETY: the caller says that `out` is a place for a time.
    unsafe { out.write(time) };
    0
}
