//! How long work takes in a simulation, where threads that run by themselves would make every run another.
//!
//! Whoever gives work to a thread of its own asks first; see `riser_proto::offload` and `riser_store`.

use std::{cell::RefCell, time::Duration};

thread_local! {
    static SIMULATED: RefCell<Option<Box<dyn Fn() -> Duration>>> = const { RefCell::new(None) };
}

/// Makes the calling thread one of a simulation: what it would give to other threads is done on the thread itself, in one
/// instant, after as much simulated time as `pace` says.
pub fn simulate(pace: impl Fn() -> Duration + 'static) {
    SIMULATED.set(Some(Box::new(pace)));
}

/// How long the next piece of work takes; `None` outside a simulation.
pub fn simulated() -> Option<Duration> {
    SIMULATED.with_borrow(|pace| pace.as_ref().map(|pace| pace()))
}
