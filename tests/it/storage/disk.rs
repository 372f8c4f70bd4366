//! The disk is full.

use std::path::PathBuf;
use std::process::Command;

use comfy_relay::replay::PlaybackSpeed;
use serde_json::json;

use super::lifecycle::comfyui;
use crate::support::database::TestDatabase;
use crate::support::program::Program;
use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::wait::wait_until;

/// The limit on file sizes makes every write fail, as a full disk does.
#[tokio::test(flavor = "multi_thread")]
async fn failing_writes_lose_no_job() {
    let db = TestDatabase::sqlite().await;
    let limit = |id: u32, limit: &str| {
        let set = Command::new("prlimit")
            .args(["--pid", &id.to_string(), &format!("--fsize={limit}:")])
            .output()
            .unwrap();
        assert!(set.status.success(), "{set:?}");
    };
    full_disk(&db, |id| limit(id, "0"), |id| limit(id, "unlimited")).await;
}

/// The same with a disk that is really full. Skipped where the user may not mount one.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_no_job() {
    let Some(disk) = Disk::mount() else {
        eprintln!("skipped: this user may not mount a disk");
        return;
    };
    let db = TestDatabase::at(format!("sqlite:{}", disk.0.join("relay.db").display()));
    let filler = disk.0.join("filler");
    let fill = |_| {
        let dd = format!("dd if=/dev/zero of={} bs=4k", filler.display());
        let filled = Command::new("sh").args(["-c", &dd]).output().unwrap();
        let message = String::from_utf8_lossy(&filled.stderr).into_owned();
        assert!(message.contains("No space left"), "{message}");
    };
    full_disk(&db, fill, |_| std::fs::remove_file(&filler).unwrap()).await;
}

/// A small disk in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap().keep();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "comfy-relay-test"]);
        let mounted = mount.arg(&folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        std::fs::remove_dir(folder).unwrap();
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
        let _ = std::fs::remove_dir(&self.0);
    }
}

async fn full_disk(db: &TestDatabase, fill: impl Fn(u32), free: impl Fn(u32)) {
    let comfyui = comfyui(&[TXT2IMG], PlaybackSpeed::Fastest).await;
    let relay = Program::with_database(&db.url(), &comfyui.url()).await;
    wait_until("the relay serves", async || relay.is("healthy").await).await;
    let submit = async |job: &str| {
        let work = json!({"job_id": job, "workflow": workflow(TXT2IMG).await});
        let (status, answer) = relay.post("/api/anime/jobs", &work).await.unwrap();
        assert!([201, 202].contains(&status), "{answer}");
        let path = format!("/api/anime/jobs/{job}");
        wait_until("the job ends", async || {
            let (_, view) = relay.get(&path).await.unwrap();
            view["status"] == "completed"
        })
        .await;
    };
    submit("before").await;
    let written = "SELECT count(*) AS v FROM comfy_relay.jobs WHERE status = 'completed'";
    db.wait_for(written, "1").await;
    fill(relay.id());
    // A relay that cannot renew its registration takes no more after some seconds: others may run by then.
    for job in ["a", "b"] {
        submit(job).await;
    }
    wait_until("the full disk is seen", async || relay.is("degraded").await).await;
    free(relay.id());
    db.wait_for(written, "3").await;
    wait_until("the relay is well again", async || {
        relay.is("healthy").await
    })
    .await;
    assert_eq!(
        db.value("SELECT count(*) AS v FROM comfy_relay.jobs").await,
        "3"
    );
}
