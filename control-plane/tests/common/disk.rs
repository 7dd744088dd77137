//! A file system of a test's own, in a mount namespace that goes with the test: to be filled up, and to fail.
//!
//! In: root, `unshare`, `nsenter`, `mount`. Without them the test is skipped, loudly, and fails with `CI=true`.

#![allow(dead_code)] // every test file uses a part of it

use super::node::RunningNode;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// See the module.
pub struct OwnDisk {
    /// Holds the namespace until its input is closed: by us, or by our end.
    holder: Child,
    folder: tempfile::TempDir,
}

impl OwnDisk {
    /// `script` mounts something on `$DISK`; `$BACK` is a folder for what it needs. `None`: not permitted here.
    pub fn mount(script: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, back) = (folder.path().join("disk"), folder.path().join("back"));
        for made in [&disk, &back] {
            std::fs::create_dir(made).expect("a folder in a new one");
        }
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &format!("{script}\necho mounted\nexec cat")])
            .env("DISK", &disk)
            .env("BACK", &back)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare is part of every Linux");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe");
        if line.trim() == "mounted" {
            return Some(Self { holder, folder });
        }
        let out = holder.wait_with_output().expect("our child");
        let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no disk of our own: {why}");
        eprintln!("SKIPPED: no disk of our own, mounting needs root ({why})");
        None
    }

    /// Memory of this many MiB.
    pub fn of_memory(mib: u32) -> Option<Self> {
        Self::mount(&format!("mount -t tmpfs -o size={mib}m tmpfs \"$DISK\""))
    }

    /// Its folder, as processes in the namespace name it.
    pub fn inside(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A path of the namespace, from here.
    fn outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").expect("folders of tests are absolute"))
    }

    fn enter(&self) -> Vec<String> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        ["nsenter", &namespace, "--"].map(str::to_owned).to_vec()
    }

    /// Runs a script in the namespace, with `$DISK` and `$BACK`.
    pub fn run(&self, script: &str) {
        let enter = self.enter();
        let out = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["sh", "-ec", script])
            .env("DISK", self.inside())
            .env("BACK", self.folder.path().join("back"))
            .output()
            .expect("nsenter is part of every Linux");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{script}: {said}");
    }

    /// Takes all room but `left` KiB.
    pub fn fill(&self, left_kib: u64) {
        // Twice: the second time with what metadata of the first has left.
        self.run(&format!(
            "cd \"$DISK\"; for part in 1 2; do
                 n=$(($(stat -f -c '%a*%S/1024' .) - {left_kib}))
                 [ $n -le 0 ] || dd if=/dev/zero of=balloon-$part bs=1K count=$n status=none || true
             done"
        ));
    }

    /// Gives it back.
    pub fn free(&self) {
        self.run("rm -f \"$DISK\"/balloon-*");
    }

    /// A node on it.
    pub fn node(&self, args: &[&str]) -> RunningNode {
        let inside = self.inside();
        RunningNode::start_at(&inside, &self.outside(&inside), self.enter(), args, None)
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
