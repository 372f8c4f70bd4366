//! `GET /api/anime/jobs/{job_id}/outputs`: the files that a job has made, listed and one by one.

mod file;
mod list;
mod media_type;
mod thumbnail;

use crate::server::contract::endpoint::Endpoint;

pub(in crate::server) use file::{FILE_PARAMETERS, FileRequest, contain, file};
pub(in crate::server) use list::{link_end, list};
pub(in crate::server) use media_type::{file_name, media_type};

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    vec![list::endpoint(), file::endpoint()]
}
