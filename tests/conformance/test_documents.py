"""Documents fail the build when they lie."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dicom_node.cli import COMMANDS, HIDDEN, cli
from dicom_node.config import DestinationSection, NodeConfig
from dicom_node.peers import PeerSection
from storage.settings import Settings, describe, parse
from tests.conformance.chart import DOCUMENT, written_into

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [path for path in ROOT.rglob("*.md") if ".venv" not in path.parts and "node_modules" not in path.parts]


def test_the_charts_of_the_architecture_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    assert written_into(text) == text, "run: python -m tests.conformance.chart"


def test_the_architecture_names_every_folder_of_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    packages = [p.parent for top in ("dicom_node", "inference", "storage") for p in (ROOT / top).glob("*/__init__.py")]
    folders = [f"{p.parent.name}/{p.name}/" for p in packages]

    assert [folder for folder in folders if folder.split("/")[1] + "/" not in text] == []


def test_every_setting_says_its_unit_its_default_and_why() -> None:
    def undocumented(model: type[Settings]) -> list[str]:
        bare = [f"{model.__name__}.{n}" for n, field in model.model_fields.items() if not field.description]
        return bare if model is not NodeConfig else []

    sections = [type(getattr(NodeConfig(), name)) for name in NodeConfig.model_fields if name != "destinations"]
    assert [name for section in sections for name in undocumented(section)] == []
    shown = describe(NodeConfig())
    for name in ("port", "quiet_seconds", "keep_days"):
        assert re.search(rf"^# .*Default.*\n(?:# .*\n)*{name} = ", shown, re.MULTILINE), name


def test_the_configuration_that_is_shown_is_one_that_is_valid() -> None:
    assert parse(NodeConfig, tomllib.loads(describe(NodeConfig())), source="shown") == NodeConfig()


def test_what_the_readme_adds_to_the_configuration_that_is_shown_is_valid() -> None:
    [added] = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)

    config = parse(NodeConfig, tomllib.loads(describe(NodeConfig()) + added), source="shown")

    assert [peer.ae_title for peer in config.receive.peers] == ["PACS"]
    assert list(config.destinations) == ["pacs"]


def test_tables_that_are_shown_as_comments_only_need_their_signs_removed() -> None:
    given = {"ae_title": '"PACS"', "host": '"10.1.2.3"', "port": "104"}
    shown = re.sub(
        r"^(# \w+) = \(must be given\)$", lambda m: f"{m[1]} = {given[m[1][2:]]}", describe(NodeConfig()), flags=re.M
    )
    filled = re.sub(r"^# (?=\[|\w+ = (?!\(not set\)))", "", shown, flags=re.M)

    config = parse(NodeConfig, tomllib.loads(filled), source="shown")

    assert config.receive.peers == (PeerSection(ae_title="PACS"),)
    assert config.destinations == {"NAME": DestinationSection(ae_title="PACS", host="10.1.2.3", port=104)}
    assert len(config.stow.clients) == 1


def test_the_example_configuration_is_valid() -> None:
    example = ROOT / "deploy" / "node.example.toml"

    config = parse(NodeConfig, tomllib.loads(example.read_text(encoding="utf-8")), source=str(example))

    assert config.destinations


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in HIDDEN])
def test_every_command_has_help_and_is_in_the_readme(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert f"dicom-node {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_that_the_readme_shows_exist() -> None:
    shown = set(re.findall(r"dicom-node ([a-z]+)(?: ([a-z]+))?", (ROOT / "README.md").read_text(encoding="utf-8")))
    for name, sub in shown:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        if isinstance(command, click.Group) and sub:
            assert command.get_command(click.Context(command), sub) is not None, f"{name} {sub}"


def test_links_between_documents_lead_somewhere() -> None:
    for path in TEXTS:
        for target in re.findall(r"\]\((?!http|#|mailto)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_changelog_has_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
