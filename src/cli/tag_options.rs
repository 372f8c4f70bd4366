//! [`TagOptions`]: which jobs are meant, by their labels and their group.

/// The flags that select jobs by what was given with them.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TagOptions {
    /// Only jobs with this label; can be repeated, for jobs with all of them
    #[arg(long = "label", value_parser = parse_label, value_name = "KEY=TEXT")]
    labels: Vec<(String, String)>,

    /// Only jobs of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

impl TagOptions {
    /// The parameters that select the jobs in a list or a stream.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let labels = self.labels.iter();
        let labels = labels.map(|(key, text)| ("label", format!("{key}={text}")));
        labels
            .chain(self.group.iter().map(|name| ("group", name.clone())))
            .collect()
    }
}

/// Reads `KEY=TEXT`.
pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, text) = text
        .split_once('=')
        .filter(|(key, text)| !key.is_empty() && !text.is_empty())
        .ok_or("expected KEY=TEXT, such as episode=3")?;
    Ok((key.to_owned(), text.to_owned()))
}
