//! Files that clients have uploaded for graphs to load: which there are, and whether all servers have them.

use futures_util::future::join_all;

use crate::job::ImageFile;
use crate::relay::{Relay, RelayError};
use crate::store::StoredAsset;

/// PostgreSQL takes no text that has it, so nothing is called so.
const NUL: char = '\0';

/// ComfyUI's name of the folder.
const INPUT: &str = "input";

impl Relay {
    /// Adds an asset. One with its id stays as it is.
    pub async fn add_asset(&self, asset: &StoredAsset) -> Result<(), RelayError> {
        Ok(self.recorder().store().add_asset(asset).await?)
    }

    /// The asset with this id.
    pub async fn asset(&self, id: &str) -> Result<Option<StoredAsset>, RelayError> {
        if id.contains(NUL) {
            return Ok(None);
        }
        Ok(self.recorder().store().asset(id).await?)
    }

    /// The newest asset with this content, if all servers that answer have its file: one that was added later, or whose folder was
    /// cleared, needs it again.
    pub async fn asset_with_hash(&self, hash: &str) -> Result<Option<StoredAsset>, RelayError> {
        let found = self.recorder().store().asset_with_hash(hash).await?;
        let Some(asset) = found else {
            return Ok(None);
        };
        let count = self.count_files(&asset).await;
        Ok(count.is_some_and(|count| count > 0).then_some(asset))
    }

    /// Whether a server that answers lacks the file of an asset.
    pub async fn lacks_file(&self, asset: &StoredAsset) -> bool {
        self.count_files(asset).await.is_none()
    }

    /// How many servers have the file of an asset; `None` if one that answers does not.
    async fn count_files(&self, asset: &StoredAsset) -> Option<usize> {
        let file = ImageFile {
            name: asset.filename.clone(),
            subfolder: String::new(),
            folder: INPUT.to_owned(),
        };
        let backends = self.loading_backends();
        let asked = backends
            .iter()
            .map(|backend| backend.comfy.rest().file_size(&file));
        let sizes = join_all(asked).await;
        let has_all = |size| u64::try_from(asset.size_bytes).is_ok_and(|it| it == size);
        let mut count = 0;
        for (backend, size) in backends.iter().zip(sizes) {
            match size {
                Ok(size) if size.is_some_and(has_all) => count += 1,
                // That another relay follows it says nothing of whether it answers.
                Err(error) if backend.stands_by() && error.is_unreachable() => {}
                _ => return None,
            }
        }
        Some(count)
    }

    /// Removes an asset; its file stays. Returns whether there was one.
    pub async fn remove_asset(&self, id: &str) -> Result<bool, RelayError> {
        if id.contains(NUL) {
            return Ok(false);
        }
        Ok(self.recorder().store().remove_asset(id).await?)
    }
}
