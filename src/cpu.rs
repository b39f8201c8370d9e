//! The bounded pools for work that computes. Tokio moves bytes; it does not compute.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads. Cheap to clone; the threads end when the last clone is gone.
///
/// Its queue is not bounded here: whoever adds work is bounded by permits (requests) or by being one loop (upkeep).
#[derive(Clone)]
pub struct Cpu {
    queue: Sender<Job>,
}

impl Cpu {
    /// Starts a pool of so many threads, at least one, named for what they do.
    pub fn new(name: &str, threads: usize) -> Cpu {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for at in 0..threads.max(1) {
            let jobs = Arc::clone(&jobs);
            let work = move || {
                while let Some(job) = next(&jobs) {
                    job()
                }
            };
            let thread = thread::Builder::new().name(format!("{name}-{at}"));
            thread.spawn(work).expect("the system has threads left at start");
        }
        Cpu { queue }
    }

    /// Runs a job on the pool. A job whose future is dropped before it began is not run. A panic goes on in the caller.
    pub fn run<T, F>(&self, job: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, wait) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !answer.is_closed() {
                // The caller may have left meanwhile: then nobody wants the answer.
                drop(answer.send(catch_unwind(AssertUnwindSafe(job))));
            }
        });
        let queued = self.queue.send(job);
        async move {
            queued.expect("the threads live as long as the pool");
            match wait.await.expect("a job always answers while it is waited for") {
                Ok(value) => value,
                Err(panic) => resume_unwind(panic),
            }
        }
    }
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_answer_and_a_panic_stays_with_its_caller() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let cpu = Cpu::new("test", 2);
        runtime.block_on(async {
            let sum: u64 = cpu.run(|| (0..1000).sum()).await;
            assert_eq!(sum, 499_500);
            let panicking = cpu.run(|| -> u64 { panic!("job") });
            let set = tokio::task::LocalSet::new();
            let caught = set.run_until(async { tokio::task::spawn_local(panicking).await }).await;
            assert!(caught.unwrap_err().is_panic());
            assert_eq!(cpu.run(|| 7).await, 7);
        });
    }
}
