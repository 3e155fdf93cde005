"""``bootfw install``."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import pytest
import yaml
from archives import make_tar
from bootable import disk_image
from howtos import ROOT, blocks, commands
from osimages import CONFIG, TREES
from zope.interface import implementer

from bootfw.api import FileMissing, IBackend, PluginContext, TransferRequest, boot_plugin
from bootfw.cli import main as command

MAC = "52:54:00:12:34:56"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def site(here: Path) -> Path:
    for name in ("answers", "hosts", "images"):
        (here / name).mkdir()
    (here / "bootfw.toml").write_text(CONFIG)
    (here / "answers/preseed.cfg.j2").write_text("d-i of {{ host.name }}\n")
    for name, family in (("debian-12", "debian-netboot"), ("netinst", "debian-cd"), ("rescue", "systemrescue")):
        make_tar(here / f"images/{name}.tar", dict(next(tree for tree in TREES if tree.family == family).files))
    return here


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, name: str = "install") -> tuple[int, str, str]:
        code = command.main([name, *arguments, "-c", "bootfw.toml", "--offline"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def ordered(run: Run) -> list[str]:
    _, out, _ = run("--json", name="next")
    return [order["file"] for order in json.loads(out)["next"]]


def test_image_is_ordered_once(run: Run) -> None:
    code, out, err = run(MAC.upper().replace(":", "-"), "debian-12")
    assert (code, err) == (0, "")
    assert out == (
        f"{MAC} boots Debian 12 installer (debian-12) next, once\n"
        f'switch it on; "bootfw show {MAC}" shows what has become of it\n'
    )
    assert ordered(run) == ["install/debian-12.ipxe"]


def test_image_with_answers(run: Run) -> None:
    code, out, _ = run(MAC, "debian-12", "--answers", "/preseed.cfg")
    assert code == 0
    assert "next, once with the answers preseed.cfg\n" in out
    assert ordered(run) == ["install/debian-12/preseed.cfg.ipxe"]


def test_the_image_that_was_set_is_installed(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "rescue"\n')
    assert run("image", MAC, "debian-12", name="machines") == (
        0,
        f"{MAC} is for debian-12: bootfw install {MAC} installs it\n",
        "",
    )
    assert run(MAC)[0] == 0
    assert ordered(run) == ["install/debian-12.ipxe"]
    assert run("image", MAC, name="machines")[0] == 0
    assert run(MAC)[0] == 0
    assert ordered(run) == ["install/rescue.ipxe"]


def test_wimboot_and_files_beside_the_answers_must_exist(site: Path, run: Run) -> None:
    make_tar(site / "images/win.tar", dict(next(tree for tree in TREES if tree.family == "windows").files))
    (site / "bootfw.toml").write_text(CONFIG + '[[backend]]\nuse = "directory"\nroot = "files"\n')
    (site / "files/win").mkdir(parents=True)
    for name in ("unattend.xml", "startnet.cmd"):
        (site / "files/win" / name).write_text("x")
    code, _, err = run(MAC, "win")
    assert code == 1
    assert err.startswith("bootfw: win is booted by wimboot, which no backend of bootfw.toml has: download it from")
    (site / "files/wimboot").write_text("x")
    code, _, err = run(MAC, "win", "--answers", "win/unattend.xml")
    assert code == 1
    assert "has win/winpeshl.ini, which win loads with the answers" in err
    (site / "files/win/winpeshl.ini").write_text("x")
    assert run(MAC, "win", "--answers", "win/unattend.xml")[0] == 0
    assert ordered(run) == ["install/win/win/unattend.xml.ipxe"]


def test_image_and_answers_of_the_host_file(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\ngroups = ["web"]\nimage = "debian-12"\n')
    (site / "hosts/groups").mkdir()
    (site / "hosts/groups/web.toml").write_text('answers = "preseed.cfg"\n')
    assert run(MAC)[0] == 0
    assert ordered(run) == ["install/debian-12/preseed.cfg.ipxe"]
    assert run(MAC, "rescue")[0] == 0
    assert ordered(run) == ["install/rescue.ipxe"]


TABLE = """
[[machine]]
mac = "52-54-00-12-34-56"
image = "debian-12"
answers = "preseed.cfg.j2"
"""


@pytest.mark.parametrize("without", ["", '[[backend]]\nuse = "template"\nroot = "answers"\nhosts = "hosts"\n'])
def test_image_and_answers_of_the_configuration(site: Path, run: Run, without: str) -> None:
    """They need no ``template`` backend: the answers may be a file."""
    assert without in CONFIG
    (site / "preseed.cfg").write_text("d-i\n")
    files = '[[backend]]\nuse = "directory"\nroot = "."\n'
    (site / "bootfw.toml").write_text(CONFIG.replace(without, files if without else "") + TABLE)
    assert run(MAC)[0] == 0
    assert ordered(run) == ["install/debian-12/preseed.cfg.ipxe"]


def test_template_of_a_machine_of_the_configuration(site: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "bootfw.toml").write_text(CONFIG + TABLE + 'name = "web1"\n')
    assert command.main(["render", "preseed.cfg", "--mac", MAC, "-c", "bootfw.toml"]) == 0
    assert capsys.readouterr().out == "d-i of web1\n"


def test_esxi_is_ordered_for_bios_too(site: Path, run: Run) -> None:
    """Its script has a way for each firmware."""
    make_tar(site / "images/esxi-7.tar", dict(next(tree for tree in TREES if tree.family == "esxi").files))
    assert run(MAC, "esxi-7", "--answers", "preseed.cfg")[0] == 0
    assert ordered(run) == ["install/esxi-7/preseed.cfg.ipxe"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["52:54", "debian-12"], "MAC must be a MAC address"),
        ([MAC], f'{MAC}: give IMAGE, set one with "bootfw machines image", or write image = "NAME" into its host file'),
        ([MAC, "none"], "there is no image none in {here}/images; known: debian-12, netinst, rescue"),
        ([MAC, "netinst"], "netinst can't be booted: its installer looks for the CD itself"),
        ([MAC, "rescue", "--answers", "preseed.cfg"], "rescue (SystemRescue 10.02) takes no answers that bootfw knows"),
        ([MAC, "debian-12", "--answers", "x.cfg"], "no backend of bootfw.toml has x.cfg, which has the answers"),
    ],
)
def test_errors(site: Path, run: Run, arguments: list[str], error: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {error.replace('{here}', str(site))}")
    assert ordered(run) == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('listen = ["127.0.0.1:0"]', "listen = []", "installers fetch their answers by HTTP: set [http] listen in"),
        ('use = "next-boot"', 'use = "static"\nfile = "x"', "bootfw.toml has resolvers, but none for one-time boots"),
        ("[http]", '[dhcp]\nmode = "off"\n[http]', "bootfw.toml answers no DHCP requests, so no machine would boot it"),
        ('images = "images"', "", "the menu boots it, and there is none with its directory: add [[backend]]"),
        ('use = "images"\nroot = "images"', 'use = "distribution"', "no images are served by bootfw.toml"),
    ],
)
def test_errors_of_the_configuration(site: Path, run: Run, old: str, new: str, error: str) -> None:
    assert old in CONFIG
    (site / "bootfw.toml").write_text(CONFIG.replace(old, new))
    code, _, err = run(MAC, "debian-12", "--answers", "preseed.cfg")
    assert code == 1
    assert err.startswith(f"bootfw: {error}")


def test_mistake_in_the_host_file(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = 12\n')
    assert run(MAC)[2] == 'bootfw: the host file of web1: "image" must be a string\n'
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = \n')
    assert run(MAC)[2].startswith(f"bootfw: {site}/hosts/web1.toml:2: ")


# Several machines, and disk images

OTHER = "52:54:00:12:34:57"


@pytest.fixture
def disk(site: Path) -> Path:
    """The image of a disk, with all that it needs."""
    multicast = '[multicast]\nlisten = ["0.0.0.0:64494"]\n'
    (site / "bootfw.toml").write_text(CONFIG.replace("[[backend]]", f"{multicast}[[backend]]", 1))
    (site / "images/receiver").mkdir()
    for path, data in next(tree for tree in TREES if tree.family == "receiver").files.items():
        (site / "images/receiver" / path).write_bytes(data)
    (site / "images/win11.img").write_bytes(disk_image(gpt=True))
    (site / "images/win11.img.chunks").write_bytes(b"digests")
    return site


def test_several_machines_install_the_same_image(run: Run) -> None:
    code, out, err = run(MAC, OTHER, MAC, "debian-12")
    assert (code, err) == (0, "")
    assert out == (
        f"{MAC} boots Debian 12 installer (debian-12) next, once\n"
        f"{OTHER} boots Debian 12 installer (debian-12) next, once\n"
        "switch them on; bootfw boots lists them\n"
    )
    assert ordered(run) == ["install/debian-12.ipxe"] * 2


def test_several_machines_install_what_is_set_for_each(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "rescue"\n')
    (site / "hosts/web2.toml").write_text(f'mac = "{OTHER}"\nimage = "debian-12"\nanswers = "preseed.cfg"\n')
    assert run("web1", "web2")[0] == 0
    assert ordered(run) == ["install/rescue.ipxe", "install/debian-12/preseed.cfg.ipxe"]


def test_machines_with_a_tag(run: Run) -> None:
    for mac in (MAC, OTHER):
        assert run("tag", mac, "hall2", name="machines")[0] == 0
    assert run("--tag", "hall2", "debian-12")[0] == 0
    assert ordered(run) == ["install/debian-12.ipxe"] * 2
    assert run("--tag", "hall3", "debian-12")[2] == 'bootfw: no machine has the tag "hall3"\n'
    assert run("debian-12")[2].startswith('bootfw: MAC: no machine has the name "debian-12"')


def test_nothing_is_ordered_when_one_can_not_be_installed(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "rescue"\n')
    code, out, err = run("web1", OTHER)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {OTHER}: give IMAGE")
    assert ordered(run) == []


def test_name_of_an_image_comes_before_that_of_a_machine(site: Path, run: Run) -> None:
    (site / "hosts/rescue.toml").write_text(f'mac = "{OTHER}"\nimage = "debian-12"\n')
    assert run(MAC, "rescue")[0] == 0
    assert ordered(run) == ["install/rescue.ipxe"]


def test_disk_image_is_ordered(disk: Path, run: Run) -> None:
    code, out, _ = run(MAC, OTHER, "win11")
    assert code == 0
    assert out.startswith(f"{MAC} boots Disk image, GPT (win11) next, once\n")
    assert ordered(run) == ["install/win11.ipxe"] * 2


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "0.0.0.0:64494",
            "0.0.0.0:64495",
            'machines receive it by multicast: set [multicast] listen = ["0.0.0.0:64494"] in',
        ),
        (
            "[multicast]",
            '[multicast]\nmethods = ["unicast"]',
            "machines receive it by multicast: set [multicast] listen",
        ),
        ('listen = ["127.0.0.1:0"]', "listen = []", "machines load their receiver by HTTP: set [http] listen in"),
    ],
)
def test_disk_image_needs_multicast_and_http(disk: Path, run: Run, old: str, new: str, error: str) -> None:
    text = (disk / "bootfw.toml").read_text()
    assert old in text
    (disk / "bootfw.toml").write_text(text.replace(old, new))
    assert run(MAC, "win11")[2].startswith(f"bootfw: win11 can't be installed: {error}")
    assert ordered(run) == []


def test_disk_image_needs_digests_and_a_receiver(disk: Path, run: Run) -> None:
    (disk / "images/win11.img.chunks").unlink()
    path = disk / "images/win11.img"
    message = f"bootfw: win11 can't be installed: it has no digests: bootfw images add {path} makes them\n"
    assert run(MAC, "win11")[2] == message
    (disk / "images/receiver/receiver.txt").unlink()
    made = f"bootfw receive --write-system {disk}/images/receiver makes one"
    assert run(MAC, "win11")[2] == f"bootfw: win11 can't be installed: no receiver is there: {made}\n"


def test_receiver_alone_is_not_installed(disk: Path, run: Run) -> None:
    error = "receiver writes disk images: install one of these, and it is booted for that"
    assert run(MAC, "receiver")[2] == f"bootfw: {error}\n"


# The page, and the answers to begin with


@pytest.fixture
def page(site: Path) -> Path:
    """The configuration and the host file of the page, with the answers of examples/answers."""
    configuration, host, _ = blocks("install.md", "toml")
    text = configuration.replace("/srv/boot/images", str(site / "images")).replace("/srv/boot", str(site))
    (site / "bootfw.toml").write_text(f'[bootfw]\nstate-dir = "state"\n{text}')
    (site / "hosts/web1.toml").write_text(host)
    for path in (ROOT / "examples/answers").rglob("*.j2"):
        place = site / "answers" / path.relative_to(ROOT / "examples/answers")
        place.parent.mkdir(exist_ok=True)
        place.write_text(path.read_text())
    return site


def test_install_of_the_howto(page: Path, run: Run) -> None:
    shown = blocks("install.md", "console")[0]
    assert run(MAC, "debian-12")[1].splitlines()[0] == shown.splitlines()[2]
    (page / "images/debian-12.tar").rename(page / "images/alma-9.tar")
    make_tar(page / "images/alma-9.tar", dict(next(tree for tree in TREES if tree.family == "redhat-boot").files))
    make_tar(page / "images/debian-12.tar", dict(next(tree for tree in TREES if tree.family == "debian-netboot").files))
    said = [line.split()[2:] for line in commands("install.md") if line.startswith("bootfw install")]
    assert [run(*words)[0] for words in said] == [0, 0]
    assert ordered(run) == ["install/alma-9/kickstart.cfg.ipxe"]


def test_machine_of_the_page(page: Path, run: Run) -> None:
    """The table has what the host file has."""
    _, host, table = blocks("install.md", "toml")
    of_file, (machine,) = tomllib.loads(host), tomllib.loads(table)["machine"]
    assert {**of_file, "answers": "preseed.cfg.j2", "name": "web1"} == machine
    (page / "hosts/web1.toml").unlink()
    assert run(MAC)[0] == 1
    with (page / "bootfw.toml").open("a") as file:
        file.write(table)
    assert run(MAC)[0] == 0
    assert ordered(run) == ["install/debian-12/preseed.cfg.ipxe"]


def rendered(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    arguments = ["render", path, "--mac", MAC, "--http", "--server", "10.0.0.1", "-c", "bootfw.toml"]
    assert command.main(arguments) == 0
    return capsys.readouterr().out


UP = f"http://10.0.0.1:8069/bootfw/up?mac={MAC}"


def test_preseed_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered("preseed.cfg", capsys)
    assert "d-i netcfg/get_hostname string web1\n" in text
    assert "user-password-crypted password $6$salt$hash\n" in text
    assert UP in text
    lines = [line for line in text.splitlines() if line]
    assert [line for line in lines if not re.match(r"(d-i|tasksel|popularity-contest) \S+/\S+ \w+", line)] == []


def test_kickstart_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered("kickstart.cfg", capsys)
    assert "--password=$6$salt$hash\n" in text
    assert UP in text
    assert text.count("%end") == text.count("%post") + text.count("%packages")


def test_autoinstall_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered("autoinstall/user-data", capsys)
    assert text.startswith("#cloud-config\n")
    found: dict[str, Any] = yaml.safe_load(text)["autoinstall"]
    assert found["identity"] == {"hostname": "web1", "username": "admin", "password": "$6$salt$hash"}
    assert found["late-commands"] == [f'curl --silent "{UP}"']
    assert yaml.safe_load(rendered("autoinstall/meta-data", capsys)) == {"instance-id": "web1"}


def test_autoyast_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered("autoyast.xml", capsys)
    assert text.startswith("<?xml")
    profile = ElementTree.fromstring(text)
    found = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in profile.iter()}
    assert (found["hostname"], found["user_password"], found["confirm"]) == ("web1", "$6$salt$hash", "false")
    assert found["source"] == f'curl --silent "{UP}"'
    assert "product" not in found
    with open(page / "hosts/web1.toml", "a") as file:
        file.write('product = "SLES"\n')
    assert '<products config:type="list"><product>SLES</product></products>' in rendered("autoyast.xml", capsys)


def test_esxi_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered("esxi.cfg", capsys)
    assert "\ninstall --firstdisk --overwritevmfs\nnetwork --bootproto=dhcp --hostname=web1\n" in text
    assert "\nrootpw --iscrypted $6$salt$hash\n" in text
    assert f'wget -q -O /dev/null "{UP}"\n' in text


def test_windows_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = page / "hosts/web1.toml"
    host.write_text(host.read_text() + 'password = "a<b"\n')
    assert rendered("windows/winpeshl.ini", capsys).split() == ["[LaunchApps]", "startnet.cmd"]
    assert "\nnet use Z: \\\\10.0.0.1\\windows\n" in rendered("windows/startnet.cmd", capsys)
    root = ElementTree.fromstring(rendered("windows/unattend.xml", capsys).encode())
    names = {"u": "urn:schemas-microsoft-com:unattend"}
    found = {name: [each.text for each in root.iterfind(f".//u:{name}", names)] for name in ("ComputerName", "Path")}
    assert found == {"ComputerName": ["web1"], "Path": [f'curl.exe -s "{UP}"']}
    assert [each.text for each in root.iterfind(".//u:Password/u:Value", names)] == ["a<b"]
    assert [each.get("pass") for each in root] == ["windowsPE", "specialize", "oobeSystem"]


def test_ignition_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = json.loads(rendered("ignition/live.ign", capsys))
    (unit,) = live["systemd"]["units"]
    assert "\nExecStart=/bin/bash /etc/install.sh\n" in unit["contents"]
    assert live["storage"]["files"][0]["contents"]["source"] == "http://10.0.0.1:8069/ignition/install.sh"
    script = rendered("ignition/install.sh", capsys)
    assert subprocess.run(["bash", "-n"], input=script.encode()).returncode == 0
    assert f'curl --silent "{UP}"\nsystemctl reboot\n' in script
    installed = json.loads(rendered("ignition/installed.ign", capsys))
    assert installed["passwd"]["users"] == [{"name": "core", "passwordHash": "$6$salt$hash"}]
    assert installed["storage"]["files"][0]["contents"]["source"] == "data:,web1"


def test_talos_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("machine-token", "machine-ca", "cluster-id", "cluster-secret", "cluster-token", "cluster-ca")
    with open(page / "hosts/web1.toml", "a") as file:
        file.write('[talos]\nendpoint = "https://10.0.0.9:6443"\n')
        file.writelines(f'{name} = "{name}=="\n' for name in names)
    found = yaml.safe_load(rendered("talos.yaml", capsys))
    assert found["machine"]["install"] == {"diskSelector": {"size": ">= 8GB"}, "wipe": True}
    assert found["machine"]["ca"] == {"crt": "machine-ca==", "key": ""}
    (pod,) = found["machine"]["pods"]
    assert pod["spec"]["containers"][0]["command"][-1] == UP
    assert found["cluster"]["controlPlane"] == {"endpoint": "https://10.0.0.9:6443"}
    assert found["cluster"]["secret"] == "cluster-secret=="


def test_host_file_of_the_page_is_toml() -> None:
    assert tomllib.loads(blocks("install.md", "toml")[1])["answers"] == "preseed.cfg"


@implementer(IBackend)
class Counted:
    """Without files; how often a command makes its plugins."""

    made = 0

    @classmethod
    def configured(cls, context: PluginContext) -> "Counted":
        """Called by boot_plugin."""
        cls.made += 1
        return cls()

    def open(self, path: str, request: TransferRequest) -> NoReturn:
        """See IBackend."""
        raise FileMissing()


counted = boot_plugin(IBackend, Counted)


def test_the_plugins_are_made_once(site: Path, run: Run) -> None:
    Counted.made = 0
    (site / "bootfw.toml").write_text(CONFIG + f'[[backend]]\nuse = "{__name__}:counted"\n')
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "debian-12"\nanswers = "preseed.cfg"\n')
    assert run("web1")[0] == 0
    assert ordered(run) == ["install/debian-12/preseed.cfg.ipxe"]
    assert Counted.made == 1
