//! The time that the generator takes: the processor's, not the clock's on the wall.
//!
//! One thread does everything, on one processor: a packet that it sends goes through client, node and pod
//! before send(2) returns, in that thread's own softirq. So the time that the thread had on the processor is
//! what the packets cost, and what else the machine does meanwhile does not count. A kernel may keep the
//! time of softirqs apart (CONFIG_IRQ_TIME_ACCOUNTING): there the wall's clock has to do.

use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Which time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The thread's, CLOCK_THREAD_CPUTIME_ID of clock_gettime(2).
    Processor,
    /// CLOCK_MONOTONIC.
    Wall,
}

/// The longest that a slice may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Some work that was done again and again for a while.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// How often.
    pub count: u32,
    /// How long all of it took.
    pub took: Duration,
    /// The same on the wall.
    pub wall: Duration,
}

impl Slice {
    /// The time of one, in microseconds.
    pub fn each(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / f64::from(self.count)
    }
}

impl Clock {
    /// Which one tells what softirqs take: `work` must send packets and never sleep.
    pub fn choose(mut work: impl FnMut(Clock, Duration) -> Slice) -> Clock {
        let parts = (0..20).map(|_| {
            let slice = work(Clock::Processor, Duration::from_millis(5));
            slice.took.as_secs_f64() / slice.wall.as_secs_f64()
        });
        // On a busy machine some of them wait for the processor; where softirqs do not count, none gets there.
        if parts.fold(0.0, f64::max) > 0.9 { Clock::Processor } else { Clock::Wall }
    }

    fn now(self) -> Duration {
        let time = clock_gettime(match self {
            Clock::Processor => ClockId::ThreadCPUTime,
            Clock::Wall => ClockId::Monotonic,
        });
        Duration::try_from(time).expect("a clock that begins with zero")
    }

    /// Does something again and again, until a length of time is over. It looks at the clock after every
    /// `batch` of them, since that is a system call.
    pub fn slice(self, length: Duration, batch: u32, mut work: impl FnMut()) -> Slice {
        let (wall, start) = (Instant::now(), self.now());
        let mut count = 0;
        loop {
            (0..batch).for_each(|_| work());
            count += batch;
            let took = self.now() - start;
            if took >= length || wall.elapsed() > PATIENCE {
                return Slice { count, took, wall: wall.elapsed() };
            }
        }
    }
}

/// Keeps the calling thread on one processor: the last one, since the first has most of the interrupts.
pub fn pin() {
    let allowed = sched_getaffinity(None).expect("the processors of this thread");
    let last = (0..CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu)).expect("a processor");
    let mut only = CpuSet::new();
    only.set(last);
    sched_setaffinity(None, &only).expect("a processor that is allowed");
}
