//! The folder in which the files of completed jobs are kept.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::job::{Job, JobId, Output, Progress, Status};

/// The folder, and the jobs whose files are still to be copied into it.
#[derive(Debug)]
pub(super) struct KeptOutputs {
    /// `None` if nothing is kept.
    folder: Option<PathBuf>,
    completed: UnboundedSender<JobId>,
    /// The completed jobs whose files are being copied, or will be.
    under_way: Mutex<HashSet<JobId>>,
    /// Completed jobs whose copies were found just now, and how often each was looked for.
    found: Mutex<HashMap<JobId, usize>>,
}

/// The copy of a job's file was there a moment ago.
#[derive(Debug)]
pub(super) struct FoundCopy<'a> {
    kept: &'a KeptOutputs,
    id: JobId,
}

impl Drop for FoundCopy<'_> {
    fn drop(&mut self) {
        let mut found = self.kept.found();
        if let Some(count) = found.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                found.remove(&self.id);
            }
        }
    }
}

impl KeptOutputs {
    /// Also returns the receiver of the jobs that complete.
    pub(super) fn new(folder: Option<PathBuf>) -> (Self, UnboundedReceiver<JobId>) {
        let (completed, receiver) = unbounded_channel();
        let kept = Self {
            folder,
            completed,
            under_way: Mutex::default(),
            found: Mutex::default(),
        };
        (kept, receiver)
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        self.folder.is_some()
    }

    /// Has the files of a job copied, if it has completed.
    pub(super) fn on_ended(&self, job: &Job) {
        if self.is_on() && job.status() == Status::Completed {
            self.begin(job.id());
            // An error means that the relay is being stopped: the next start copies them.
            let _ = self.completed.send(job.id().clone());
        }
    }

    /// From now on the output path of a job names the copy, which is on its way.
    pub(super) fn begin(&self, id: &JobId) {
        self.under_way().insert(id.clone());
    }

    /// From now on the output path of a job names the copy if it is there.
    pub(super) fn finish(&self, id: &JobId) {
        self.under_way().remove(id);
    }

    /// Where the files of a job are kept, in their order; `None` if none are.
    pub(super) fn paths<'a>(
        &self,
        id: &JobId,
        outputs: impl IntoIterator<Item = &'a Output>,
    ) -> Option<impl Iterator<Item = PathBuf>> {
        let folder = self.folder.as_ref()?.join(id.as_str());
        Some(names(outputs).map(move |name| folder.join(name)))
    }

    /// Where the files of a job are kept, or will be, in their order; `None` unless it has completed.
    pub(super) fn paths_of(&self, job: &Job) -> Option<impl Iterator<Item = PathBuf>> {
        let has_completed = job.status() == Status::Completed;
        has_completed.then(|| self.paths(job.id(), job.outputs()))?
    }

    /// Has the output path of a completed job name the copy, where that is on its way, or was found by [`look`](Self::look) and is
    /// held. Looks at no disk: the jobs are locked, and a share on the network may not answer.
    pub(super) fn place(&self, job: &Job, progress: &mut Progress) {
        if self.is_under_way(job.id()) || self.found().contains_key(job.id()) {
            name_output(self.main_path(job), progress);
        }
    }

    /// Looks whether the file at the `path` that the output path of a job would name is there. While what is returned is held,
    /// [`place`](Self::place) knows.
    pub(super) async fn look(&self, id: &JobId, path: &Path) -> Option<FoundCopy<'_>> {
        if !tokio::fs::try_exists(path).await.unwrap_or_default() {
            return None;
        }
        *self.found().entry(id.clone()).or_default() += 1;
        Some(FoundCopy {
            kept: self,
            id: id.clone(),
        })
    }

    /// The same of a job that has completed a moment ago at another relay, which copies its files.
    pub(super) fn place_ahead(&self, job: &Job, progress: &mut Progress) {
        name_output(self.main_path(job), progress);
    }

    /// Where the file is kept, or will be, that the output path names.
    pub(super) fn main_path(&self, job: &Job) -> Option<PathBuf> {
        self.path(job, job.main_output_number()?)
    }

    /// Whether the files of a job are being copied, or will be.
    pub(super) fn is_under_way(&self, id: &JobId) -> bool {
        self.under_way().contains(id)
    }

    /// Where one of them is kept, or will be.
    pub(super) fn path(&self, job: &Job, number: usize) -> Option<PathBuf> {
        self.paths_of(job)?.nth(number)
    }

    /// Locks it. Consistent at any moment.
    fn found(&self) -> MutexGuard<'_, HashMap<JobId, usize>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks it. Consistent at any moment.
    fn under_way(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_output(path: Option<PathBuf>, progress: &mut Progress) {
    if let Some(path) = path {
        progress.output_path = Some(path.to_string_lossy().into_owned());
    }
}

/// The names of files in the folder of their job: their own, with their number before it where that is no name for a
/// file, or another file has it.
fn names<'a>(outputs: impl IntoIterator<Item = &'a Output>) -> impl Iterator<Item = String> {
    let mut taken = HashSet::new();
    let numbered = outputs.into_iter().enumerate();
    numbered.map(move |(number, output)| {
        let mut name = if is_name(&output.filename) {
            output.filename.clone()
        } else {
            format!("{number}-output")
        };
        while !taken.insert(name.clone()) {
            name = format!("{number}-{name}");
        }
        name
    })
}

/// Whether a text is the name of a file in a folder, and of none elsewhere. Hidden files are those that are being
/// written.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && !text.starts_with('.')
        && !text.contains(['/', '\\', ':'])
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::job::{Event, Outcome};

    fn output(filename: &str) -> Output {
        Output {
            node: "9".to_owned(),
            kind: "images".to_owned(),
            filename: filename.to_owned(),
            subfolder: String::new(),
            r#type: "output".to_owned(),
            url: String::new(),
            text: None,
            truncated: false,
        }
    }

    #[test]
    fn every_file_has_a_name_of_its_own_below_the_folder() {
        let outputs = [
            "a.png",
            "2-a.png",
            "a.png",
            "../../etc/passwd",
            "..",
            "",
            "C:\\x.png",
            "a\0b",
        ]
        .map(output);
        let (kept, _) = KeptOutputs::new(Some("/kept".into()));
        let shot = JobId::parse("shot").unwrap();
        let paths: Vec<PathBuf> = kept.paths(&shot, &outputs).unwrap().collect();
        let names = ["a.png", "2-a.png", "2-2-a.png"]
            .into_iter()
            .map(str::to_owned);
        let others = (3..8).map(|number| format!("{number}-output"));
        let expected: Vec<PathBuf> = names
            .chain(others)
            .map(|name| Path::new("/kept/shot").join(name))
            .collect();
        assert_eq!(paths, expected);
        let (off, _) = KeptOutputs::new(None);
        assert!(off.paths(&shot, &outputs).is_none());
    }

    #[tokio::test]
    async fn the_output_path_names_a_copy_only_where_it_is_known_before_the_jobs_are_locked() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, _) = KeptOutputs::new(Some(folder.path().to_owned()));
        let now = Timestamp::UNIX_EPOCH;
        let mut job = Job::new(JobId::parse("shot").unwrap(), now);
        job.apply(Event::Outputs(vec![output("a.png")]), now);
        job.apply(Event::Closed(Outcome::Completed), now);
        let path = kept.main_path(&job).unwrap();
        let named = || {
            let mut progress = job.progress(None, now);
            kept.place(&job, &mut progress);
            progress.output_path == Some(path.to_string_lossy().into_owned())
        };
        assert!(kept.look(job.id(), &path).await.is_none());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(!named(), "a disk is looked at");
        let found = [
            kept.look(job.id(), &path).await.unwrap(),
            kept.look(job.id(), &path).await.unwrap(),
        ];
        let [first, second] = found;
        drop(first);
        assert!(named());
        drop(second);
        assert!(!named());
        kept.begin(job.id());
        assert!(named(), "it is on its way");
    }
}
