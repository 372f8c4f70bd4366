/// The family of a scenario, by its name: the number that it begins with, which its versions and repetitions
/// share.
pub(super) fn family(scenario: &str) -> &str {
    let end = scenario.find(|letter: char| !letter.is_ascii_digit());
    end.map_or(scenario, |end| &scenario[..end])
}
