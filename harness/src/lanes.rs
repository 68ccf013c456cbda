//! Work on many inputs, side by side: at most one input a thread is held, and results come in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use rayon::prelude::*;

/// Results that may wait for one that takes longer.
const WINDOW: usize = 64;

/// Results that wait for those before them.
struct Queue<'t, T> {
    next: usize,
    waiting: BTreeMap<usize, T>,
    /// The error of the lowest number: the same one in every run.
    failed: Option<(usize, anyhow::Error)>,
    take: &'t mut (dyn FnMut(usize, T) -> Result<()> + Send),
}

impl<T> Queue<'_, T> {
    fn fail(&mut self, number: usize, error: anyhow::Error) {
        if self
            .failed
            .as_ref()
            .is_none_or(|(other, _)| number < *other)
        {
            self.failed = Some((number, error));
        }
    }

    fn put(&mut self, number: usize, done: Result<T>) {
        match done {
            Ok(done) => {
                self.waiting.insert(number, done);
            }
            Err(error) => self.fail(number, error),
        }
        while let (None, Some(done)) = (&self.failed, self.waiting.remove(&self.next)) {
            if let Err(error) = (self.take)(self.next, done) {
                self.fail(self.next, error);
            }
            self.next += 1;
        }
    }
}

/// Does `work` for each number of a range, and hands the results to `take` in their order. Where there are many numbers,
/// each thread works on one of its own, alone; few numbers share the threads. Stops behind what is in work where `stop`
/// becomes true; returns the first number that was not taken.
///
/// # Errors
/// The error of `work` or `take` on the lowest number.
pub(crate) fn in_order<T: Send>(
    range: Range<usize>,
    stop: &AtomicBool,
    work: &(dyn Fn(usize) -> Result<T> + Sync),
    take: &mut (dyn FnMut(usize, T) -> Result<()> + Send),
) -> Result<usize> {
    let threads = rayon::current_num_threads();
    let given = AtomicUsize::new(range.start);
    let queue = Mutex::new(Queue {
        next: range.start,
        waiting: BTreeMap::new(),
        failed: None,
        take,
    });
    let room = Condvar::new();
    // One number; false where nothing is left to do.
    let step = |may_wait: bool| {
        if stop.load(Ordering::Relaxed) || lock(&queue).failed.is_some() {
            return false;
        }
        let number = given.fetch_add(1, Ordering::Relaxed);
        if number >= range.end {
            return false;
        }
        if may_wait {
            let mut open = lock(&queue);
            while open.failed.is_none() && number >= open.next + WINDOW {
                open = room.wait(open).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let done = work(number);
        lock(&queue).put(number, done);
        room.notify_all();
        true
    };
    if threads == 1 {
        rayon::scope(|_| while step(false) {});
    } else if range.len() < 2 * threads {
        range.clone().into_par_iter().for_each(|_| {
            step(false);
        });
    } else {
        let pool = || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            pool.map_err(|e| anyhow!("no thread can be started: {e}"))
        };
        let pools = (0..threads).map(|_| pool()).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            for pool in &pools {
                let step = &step;
                scope.spawn(move || pool.install(|| while step(true) {}));
            }
        });
    }
    let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    match queue.failed {
        Some((_, error)) => Err(error),
        None => Ok(queue.next),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere ends the process; what it left is not used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers come in order, and no more are held than there are threads, however long one takes.
    #[test]
    fn in_order_and_bounded() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads");
            let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let work = |number: usize| {
                let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                if number.is_multiple_of(97) {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                held.fetch_sub(1, Ordering::SeqCst);
                Ok(number * number)
            };
            let mut seen = Vec::new();
            let end = pool.install(|| {
                in_order(
                    3..1000,
                    &AtomicBool::new(false),
                    &work,
                    &mut |number, square| {
                        assert_eq!(square, number * number);
                        seen.push(number);
                        Ok(())
                    },
                )
            });
            assert_eq!(end.expect("no error"), 1000);
            assert_eq!(seen, (3..1000).collect::<Vec<_>>());
            assert!(most.into_inner() <= threads);
        }
    }

    /// What is taken is a whole beginning, also where somebody stops or something fails.
    #[test]
    fn stops_behind_a_beginning() {
        let stop = AtomicBool::new(false);
        let mut seen = 0;
        let end = in_order(0..500, &stop, &|number| Ok(number), &mut |number, _| {
            assert_eq!(number, seen);
            seen += 1;
            if number == 40 {
                stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
        let end = end.expect("no error");
        assert!((41..500).contains(&end));
        assert_eq!(seen, end);
        let work = |number| {
            if number == 70 {
                Err(anyhow!("seventy"))
            } else {
                Ok(())
            }
        };
        let failed = in_order(0..500, &AtomicBool::new(false), &work, &mut |number, ()| {
            assert!(number < 70);
            Ok(())
        });
        assert_eq!(failed.expect_err("it fails").to_string(), "seventy");
    }
}
