"""Plugins of this repository, installed for one test."""

import configparser
from pathlib import Path

PLUGINS = Path(__file__).parents[1] / "plugins"
EMULAB = PLUGINS / "bootfw-emulab"
POSTGRESQL = PLUGINS / "bootfw-postgresql"
REDFISH = PLUGINS / "bootfw-redfish"


def install_plugin(plugin: Path, directory: Path) -> None:
    """Install a distribution for those that have *directory* in their path.

    :param plugin: its directory; its package has the same name, with "_" in place of "-".
    """
    package = plugin.name.replace("-", "_")
    (directory / package).symlink_to(plugin / package)
    metadata = directory / f"{package}-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin.name}\nVersion: 0.1.0\n")
    configuration = configparser.ConfigParser()
    configuration.read(plugin / "setup.cfg")
    groups = dict(configuration["options.entry_points"])
    (metadata / "entry_points.txt").write_text("".join(f"[{group}]\n{groups[group].strip()}\n" for group in groups))
