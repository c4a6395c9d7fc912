//! The clock and the disk of programs that a test starts: a library that is loaded before the system's, so that the clock
//! jumps under a process that runs, and a disk is full for all of them at once.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What stands between the programs and the system. The flags are files, so that they change under a running process.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, t), file;
    const char *name = getenv("SHIM_CLOCK");
    if (done == 0 && id == CLOCK_REALTIME && name && (file = open(name, O_RDONLY | O_CLOEXEC)) >= 0) {
        char text[32] = {0};
        if (read(file, text, sizeof text - 1) > 0) t->tv_sec += atol(text);
        close(file);
    }
    return done;
}

static int full(int file) {
    struct stat about;
    const char *name = getenv("SHIM_FULL");
    if (!name || access(name, F_OK) != 0 || fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

#define WRITES(name, type, parameters, arguments) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return full(file) ? -1 : real arguments; \
    }
WRITES(write, ssize_t, (int file, const void *from, size_t bytes), (file, from, bytes))
WRITES(pwrite, ssize_t, (int file, const void *from, size_t bytes, off_t at), (file, from, bytes, at))
WRITES(pwrite64, ssize_t, (int file, const void *from, size_t bytes, off64_t at), (file, from, bytes, at))
"#;

/// A clock and a disk of their own for programs that are started with it.
pub struct Shim {
    folder: PathBuf,
}

impl Shim {
    /// Made in that folder, with the system's C compiler.
    pub fn new(folder: &Path) -> Shim {
        std::fs::create_dir_all(folder).unwrap();
        let shim = Shim { folder: folder.to_owned() };
        std::fs::write(shim.at("shim.c"), SOURCE).unwrap();
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", "shim.so", "shim.c", "-ldl"])
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        shim
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a program with them.
    pub fn around(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.at("shim.so"));
        command.env("SHIM_CLOCK", self.at("clock")).env("SHIM_FULL", self.at("full"));
    }

    /// The clock is so many seconds ahead of the system's from now on, or behind it.
    pub fn clock_is_ahead_by(&self, seconds: i64) {
        std::fs::write(self.at("clock.new"), seconds.to_string()).unwrap();
        std::fs::rename(self.at("clock.new"), self.at("clock")).unwrap();
    }

    /// No file can grow or change any more, or again they can.
    pub fn disk_is_full(&self, full: bool) {
        match full {
            true => std::fs::write(self.at("full"), "").unwrap(),
            false => std::fs::remove_file(self.at("full")).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_and_disk_are_as_the_test_says() {
        let home = tempfile::tempdir().unwrap();
        let shim = Shim::new(&home.path().join("shim"));
        let run = |words: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", words]).current_dir(home.path());
            shim.around(&mut command);
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        let year = || run("date +%Y").1.parse::<i32>().unwrap();
        let now = year();
        shim.clock_is_ahead_by(-20 * 366 * 86_400);
        assert!((now - 21..=now - 19).contains(&year()));
        shim.clock_is_ahead_by(0);
        assert_eq!(year(), now);
        shim.disk_is_full(true);
        assert!(!run("echo text > file").0);
        assert_eq!(run("echo text"), (true, "text".to_owned()), "what is no file is not full");
        shim.disk_is_full(false);
        assert!(run("echo text > file").0);
    }
}
