//! Writes the console logs to stderr on a thread of their own, so that a slow reader of stderr never
//! blocks the application.

use std::{
    fmt,
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The maximum size of the queue in bytes: some ten thousand log records.
const CAPACITY: usize = 4 << 20;

/// A bounded queue in front of an output. If it is full, lines are dropped and counted. Its thread ends
/// with the last clone.
#[derive(Clone)]
pub(crate) struct ConsoleWriter(Arc<Handle>);

/// Closes the queue when it is dropped.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when lines arrive, and when all lines are written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// The lines that are not written yet.
    lines: Vec<u8>,
    /// Whether the thread is writing lines that it has taken from `lines`.
    is_writing: bool,
    dropped: u64,
    is_closed: bool,
}

impl ConsoleWriter {
    /// Starts the thread that writes to `output`.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("console-logs".to_owned())
            .spawn(move || writer.write_to(output))?;
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Queues a line, which includes its line feed. It never waits for the output.
    pub(crate) fn write(&self, line: &str) {
        let mut queue = self.shared().lock();
        if queue.lines.len() + line.len() > CAPACITY {
            queue.dropped += 1;
            return;
        }
        queue.lines.extend_from_slice(line.as_bytes());
        drop(queue);
        self.shared().changed.notify_all();
    }

    /// Returns how many lines were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared().lock().dropped
    }

    /// Waits until all lines are written, at most for `budget`.
    pub(crate) fn flush(&self, budget: Duration) {
        let queue = self.shared().lock();
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        // Whether it has timed out makes no difference: nothing else can be done.
        drop(
            self.shared()
                .changed
                .wait_timeout_while(queue, budget, is_busy),
        );
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut output: impl Write) {
        let mut taken = Vec::new();
        loop {
            let queue = self.lock();
            let waited = self
                .changed
                .wait_while(queue, |queue| queue.lines.is_empty() && !queue.is_closed);
            let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
            if queue.lines.is_empty() {
                return;
            }
            mem::swap(&mut queue.lines, &mut taken);
            queue.is_writing = true;
            drop(queue);
            // A failed write cannot be reported, because errors are reported on the console.
            let _ = output.write_all(&taken).and_then(|()| output.flush());
            taken.clear();
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

impl fmt::Debug for ConsoleWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsoleWriter")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};

    use super::*;

    const SOON: Duration = Duration::from_mins(1);

    /// An output that keeps all that is written.
    pub(in super::super) struct Paper(pub(in super::super) Sender<Vec<u8>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output whose writes wait for a reader.
    struct Pipe(SyncSender<()>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_burst_that_fits_loses_nothing() {
        let (sender, written) = channel();
        let writer = ConsoleWriter::start(Paper(sender)).unwrap();
        let lines: Vec<_> = (0..20_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        for line in &lines {
            writer.write(line);
        }
        writer.flush(SOON);
        assert_eq!(writer.dropped(), 0);
        let written: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), lines.concat());
    }

    #[test]
    fn the_thread_ends_with_the_last_writer_and_its_lines() {
        let (sender, written) = channel();
        let writer = ConsoleWriter::start(Paper(sender)).unwrap();
        let last = writer.clone();
        drop(writer);
        last.write("last\n");
        drop(last);
        assert_eq!(written.recv_timeout(SOON).unwrap(), b"last\n");
        let ended = written.recv_timeout(SOON).unwrap_err();
        assert_eq!(ended, RecvTimeoutError::Disconnected);
    }

    #[test]
    fn a_stuck_output_blocks_nobody_and_dropped_lines_are_counted() {
        let (sender, _reader): (_, Receiver<()>) = sync_channel(0);
        let writer = ConsoleWriter::start(Pipe(sender)).unwrap();
        let line = "x".repeat(CAPACITY / 8);
        for _ in 0..100 {
            writer.write(&line);
        }
        writer.flush(Duration::from_millis(10));
        // The thread holds up to one queue, and the queue itself holds another one.
        let dropped = writer.dropped();
        assert!((84..=92).contains(&dropped), "{dropped}");
    }
}
