//! The thread that starts all programs.
//!
//! `PR_SET_PDEATHSIG` is tied to the *thread* that started the child: when that thread ends, the child is killed, even
//! while the process lives on. So one thread, which never ends, starts them all.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    process::{Child, Command},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
};

struct Order {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

/// Starts the command in a process group of its own, so that it dies with us. `lock` stays open in it and in all that
/// it starts.
pub(super) fn spawn(mut command: Command, lock: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    prepare(&mut command, lock);
    let (reply, answer) = channel();
    let gone = |_| io::Error::other("the thread that starts programs has gone");
    // The caller keeps the lock's descriptor open until the answer is here, so its number means the same in the child.
    spawner()?.send(Order { command, reply }).map_err(|_| gone(()))?;
    answer.recv().map_err(|_| gone(()))?
}

fn spawner() -> io::Result<&'static Sender<Order>> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner);
    }
    let (orders, inbox) = channel::<Order>();
    std::thread::Builder::new().name("spawner".into()).spawn(move || {
        for mut order in inbox {
            let _ = order.reply.send(order.command.spawn()); // nobody waits any more: the child is dropped, not killed
        }
    })?;
    // Another thread may have been quicker; then ours ends with its channel, having started nothing.
    Ok(SPAWNER.get_or_init(|| orders))
}

#[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
fn prepare(command: &mut Command, lock: Option<BorrowedFd<'_>>) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    let parent = rustix::process::getpid();
    let lock = lock.map(|lock| lock.as_raw_fd());
    // SAFETY: between fork and exec only calls that are safe in a signal handler are allowed; these are three plain
    // system calls, without allocation or locks. The descriptor is open in the child: `spawn`'s caller holds it.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                // We may have died before the line above: then nobody sends the signal any more.
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
                }
            }
            if let Some(lock) = lock {
                rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(lock), rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
}
