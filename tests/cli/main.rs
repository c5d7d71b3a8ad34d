//! What the command prints and which status it exits with where no agent answers.

#[test]
fn the_command_prints_what_is_written_down() {
    trycmd::TestCases::new()
        // A socket that is nowhere, so that an agent on this machine does not matter.
        .env("LANMESH_SOCKET", "absent.sock")
        .case("tests/cli/cases/*.trycmd");
}
