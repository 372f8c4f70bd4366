//! `GET /api/anime/jobs/{job_id}/outputs`: the files that a job has made, listed and one by one.

mod file;
mod list;
mod media_type;
mod thumbnail;

pub(in crate::server) use file::{FILE_PARAMETERS, FileRequest, file};
pub(in crate::server) use list::list;
