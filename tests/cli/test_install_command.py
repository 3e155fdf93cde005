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
def site(cwd: Path) -> Path:
    """A directory with a configuration, three images, and a template of answers."""
    for name in ("answers", "hosts", "images"):
        (cwd / name).mkdir()
    (cwd / "bootfw.toml").write_text(CONFIG)
    (cwd / "answers/preseed.cfg.j2").write_text("d-i of {{ host.name }}\n")
    for name, family in (("debian-12", "debian-netboot"), ("netinst", "debian-cd"), ("rescue", "systemrescue")):
        make_tar(cwd / f"images/{name}.tar", dict(next(tree for tree in TREES if tree.family == family).files))
    return cwd


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``bootfw install`` or another command, and returns its exit code, output and errors."""

    def run(*arguments: str, name: str = "install") -> tuple[int, str, str]:
        code = command.main([name, *arguments, "-c", "bootfw.toml", "--offline"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def ordered_files(run: Run) -> list[str]:
    """The files of all one-time boots."""
    _, out, _ = run("--json", name="next")
    return [order["file"] for order in json.loads(out)["next"]]


def test_image_is_ordered_once(run: Run) -> None:
    code, out, err = run(MAC.upper().replace(":", "-"), "debian-12")
    assert (code, err) == (0, "")
    assert out == (
        f"{MAC} boots Debian 12 installer (debian-12) next, once\n"
        f'switch it on; "bootfw show {MAC}" shows what has become of it\n'
    )
    assert ordered_files(run) == ["install/debian-12.ipxe"]


def test_image_is_ordered_with_answers(run: Run) -> None:
    code, out, _ = run(MAC, "debian-12", "--answers", "/preseed.cfg")
    assert code == 0
    assert "next, once with the answers preseed.cfg\n" in out
    assert ordered_files(run) == ["install/debian-12/preseed.cfg.ipxe"]


def test_image_that_was_set_is_installed(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "rescue"\n')
    assert run("image", MAC, "debian-12", name="machines") == (
        0,
        f"{MAC} is for debian-12: bootfw install {MAC} installs it\n",
        "",
    )
    assert run(MAC)[0] == 0
    assert ordered_files(run) == ["install/debian-12.ipxe"]
    assert run("image", MAC, name="machines")[0] == 0
    assert run(MAC)[0] == 0
    assert ordered_files(run) == ["install/rescue.ipxe"]


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
    assert ordered_files(run) == ["install/win/win/unattend.xml.ipxe"]


def test_image_and_answers_are_taken_from_the_host_file(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\ngroups = ["web"]\nimage = "debian-12"\n')
    (site / "hosts/groups").mkdir()
    (site / "hosts/groups/web.toml").write_text('answers = "preseed.cfg"\n')
    assert run(MAC)[0] == 0
    assert ordered_files(run) == ["install/debian-12/preseed.cfg.ipxe"]
    assert run(MAC, "rescue")[0] == 0
    assert ordered_files(run) == ["install/rescue.ipxe"]


TABLE = """
[[machine]]
mac = "52-54-00-12-34-56"
image = "debian-12"
answers = "preseed.cfg.j2"
"""


@pytest.mark.parametrize("removed", ["", '[[backend]]\nuse = "template"\nroot = "answers"\nhosts = "hosts"\n'])
def test_image_and_answers_are_taken_from_the_configuration(site: Path, run: Run, removed: str) -> None:
    """A [[machine]] table needs no ``template`` backend: the answers may be a static file."""
    assert removed in CONFIG
    (site / "preseed.cfg").write_text("d-i\n")
    files = '[[backend]]\nuse = "directory"\nroot = "."\n'
    (site / "bootfw.toml").write_text(CONFIG.replace(removed, files if removed else "") + TABLE)
    assert run(MAC)[0] == 0
    assert ordered_files(run) == ["install/debian-12/preseed.cfg.ipxe"]


def test_template_has_the_machine_of_the_configuration(
    site: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "bootfw.toml").write_text(CONFIG + TABLE + 'name = "web1"\n')
    assert command.main(["render", "preseed.cfg", "--mac", MAC, "-c", "bootfw.toml"]) == 0
    assert capsys.readouterr().out == "d-i of web1\n"


def test_esxi_is_ordered_for_bios_too(site: Path, run: Run) -> None:
    """Its script has a branch for each firmware."""
    make_tar(site / "images/esxi-7.tar", dict(next(tree for tree in TREES if tree.family == "esxi").files))
    assert run(MAC, "esxi-7", "--answers", "preseed.cfg")[0] == 0
    assert ordered_files(run) == ["install/esxi-7/preseed.cfg.ipxe"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["52:54", "debian-12"], "MAC must be a MAC address"),
        ([MAC], f'{MAC}: give IMAGE, set one with "bootfw machines image", or write image = "NAME" into its host file'),
        ([MAC, "none"], "there is no image none in {site}/images; known: debian-12, netinst, rescue"),
        ([MAC, "netinst"], "netinst can't be booted: its installer looks for the CD itself"),
        ([MAC, "rescue", "--answers", "preseed.cfg"], "rescue (SystemRescue 10.02) takes no answers that bootfw knows"),
        ([MAC, "debian-12", "--answers", "x.cfg"], "no backend of bootfw.toml has x.cfg, which has the answers"),
    ],
)
def test_invalid_arguments_are_errors(site: Path, run: Run, arguments: list[str], error: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {error.replace('{site}', str(site))}")
    assert ordered_files(run) == []


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
def test_unsuitable_configuration_is_an_error(site: Path, run: Run, old: str, new: str, error: str) -> None:
    assert old in CONFIG
    (site / "bootfw.toml").write_text(CONFIG.replace(old, new))
    code, _, err = run(MAC, "debian-12", "--answers", "preseed.cfg")
    assert code == 1
    assert err.startswith(f"bootfw: {error}")


def test_mistake_in_the_host_file_is_reported(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = 12\n')
    assert run(MAC)[2] == 'bootfw: the host file of web1: "image" must be a string\n'
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = \n')
    assert run(MAC)[2].startswith(f"bootfw: {site}/hosts/web1.toml:2: ")


# Several machines, and disk images

OTHER = "52:54:00:12:34:57"


@pytest.fixture
def disk_image_site(site: Path) -> Path:
    """The site with a disk image, and all that is needed to install it."""
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
    assert ordered_files(run) == ["install/debian-12.ipxe"] * 2


def test_several_machines_install_what_is_set_for_each(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "rescue"\n')
    (site / "hosts/web2.toml").write_text(f'mac = "{OTHER}"\nimage = "debian-12"\nanswers = "preseed.cfg"\n')
    assert run("web1", "web2")[0] == 0
    assert ordered_files(run) == ["install/rescue.ipxe", "install/debian-12/preseed.cfg.ipxe"]


def test_machines_with_a_tag_are_installed(run: Run) -> None:
    for mac in (MAC, OTHER):
        assert run("tag", mac, "hall2", name="machines")[0] == 0
    assert run("--tag", "hall2", "debian-12")[0] == 0
    assert ordered_files(run) == ["install/debian-12.ipxe"] * 2
    assert run("--tag", "hall3", "debian-12")[2] == 'bootfw: no machine has the tag "hall3"\n'
    assert run("debian-12")[2].startswith('bootfw: MAC: no machine has the name "debian-12"')


def test_nothing_is_ordered_when_one_can_not_be_installed(site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "rescue"\n')
    code, out, err = run("web1", OTHER)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {OTHER}: give IMAGE")
    assert ordered_files(run) == []


def test_name_of_an_image_comes_before_that_of_a_machine(site: Path, run: Run) -> None:
    (site / "hosts/rescue.toml").write_text(f'mac = "{OTHER}"\nimage = "debian-12"\n')
    assert run(MAC, "rescue")[0] == 0
    assert ordered_files(run) == ["install/rescue.ipxe"]


def test_disk_image_is_ordered(disk_image_site: Path, run: Run) -> None:
    code, out, _ = run(MAC, OTHER, "win11")
    assert code == 0
    assert out.startswith(f"{MAC} boots Disk image, GPT (win11) next, once\n")
    assert ordered_files(run) == ["install/win11.ipxe"] * 2


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
def test_disk_image_needs_multicast_and_http(disk_image_site: Path, run: Run, old: str, new: str, error: str) -> None:
    text = (disk_image_site / "bootfw.toml").read_text()
    assert old in text
    (disk_image_site / "bootfw.toml").write_text(text.replace(old, new))
    assert run(MAC, "win11")[2].startswith(f"bootfw: win11 can't be installed: {error}")
    assert ordered_files(run) == []


def test_disk_image_needs_digests_and_a_receiver(disk_image_site: Path, run: Run) -> None:
    (disk_image_site / "images/win11.img.chunks").unlink()
    path = disk_image_site / "images/win11.img"
    message = f"bootfw: win11 can't be installed: it has no digests: bootfw images add {path} makes them\n"
    assert run(MAC, "win11")[2] == message
    (disk_image_site / "images/receiver/receiver.txt").unlink()
    advice = f"bootfw receive --write-system {disk_image_site}/images/receiver makes one"
    assert run(MAC, "win11")[2] == f"bootfw: win11 can't be installed: no receiver is there: {advice}\n"


def test_receiver_alone_is_not_installed(disk_image_site: Path, run: Run) -> None:
    error = "receiver writes disk images: install one of these, and it is booted for that"
    assert run(MAC, "receiver")[2] == f"bootfw: {error}\n"


# The page docs/howto/install.md, and the answers in examples/answers


@pytest.fixture
def page(site: Path) -> Path:
    """The configuration and the host file of the page, with the answers of examples/answers."""
    configuration, host, _ = blocks("install.md", "toml")
    text = configuration.replace("/srv/boot/images", str(site / "images")).replace("/srv/boot", str(site))
    (site / "bootfw.toml").write_text(f'[bootfw]\nstate-dir = "state"\n{text}')
    (site / "hosts/web1.toml").write_text(host)
    for path in (ROOT / "examples/answers").rglob("*.j2"):
        target = site / "answers" / path.relative_to(ROOT / "examples/answers")
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text())
    return site


def test_install_of_the_howto(page: Path, run: Run) -> None:
    console = blocks("install.md", "console")[0]
    assert run(MAC, "debian-12")[1].splitlines()[0] == console.splitlines()[2]
    (page / "images/debian-12.tar").rename(page / "images/alma-9.tar")
    make_tar(page / "images/alma-9.tar", dict(next(tree for tree in TREES if tree.family == "redhat-boot").files))
    make_tar(page / "images/debian-12.tar", dict(next(tree for tree in TREES if tree.family == "debian-netboot").files))
    shown_arguments = [line.split()[2:] for line in commands("install.md") if line.startswith("bootfw install")]
    assert [run(*words)[0] for words in shown_arguments] == [0, 0]
    assert ordered_files(run) == ["install/alma-9/kickstart.cfg.ipxe"]


def test_machine_table_of_the_howto(page: Path, run: Run) -> None:
    """The [[machine]] table has the same values as the host file."""
    _, host, machine_table = blocks("install.md", "toml")
    host_file, (machine,) = tomllib.loads(host), tomllib.loads(machine_table)["machine"]
    assert {**host_file, "answers": "preseed.cfg.j2", "name": "web1"} == machine
    (page / "hosts/web1.toml").unlink()
    assert run(MAC)[0] == 1
    with (page / "bootfw.toml").open("a") as file:
        file.write(machine_table)
    assert run(MAC)[0] == 0
    assert ordered_files(run) == ["install/debian-12/preseed.cfg.ipxe"]


def render(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``bootfw render`` prints for the machine."""
    arguments = ["render", path, "--mac", MAC, "--http", "--server", "10.0.0.1", "-c", "bootfw.toml"]
    assert command.main(arguments) == 0
    return capsys.readouterr().out


UP = f"http://10.0.0.1:8069/bootfw/up?mac={MAC}"


def test_preseed_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = render("preseed.cfg", capsys)
    assert "d-i netcfg/get_hostname string web1\n" in text
    assert "user-password-crypted password $6$salt$hash\n" in text
    assert UP in text
    lines = [line for line in text.splitlines() if line]
    assert [line for line in lines if not re.match(r"(d-i|tasksel|popularity-contest) \S+/\S+ \w+", line)] == []


def test_kickstart_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = render("kickstart.cfg", capsys)
    assert "--password=$6$salt$hash\n" in text
    assert UP in text
    assert text.count("%end") == text.count("%post") + text.count("%packages")


def test_autoinstall_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = render("autoinstall/user-data", capsys)
    assert text.startswith("#cloud-config\n")
    autoinstall: dict[str, Any] = yaml.safe_load(text)["autoinstall"]
    assert autoinstall["identity"] == {"hostname": "web1", "username": "admin", "password": "$6$salt$hash"}
    assert autoinstall["late-commands"] == [f'curl --silent "{UP}"']
    assert yaml.safe_load(render("autoinstall/meta-data", capsys)) == {"instance-id": "web1"}


def test_autoyast_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = render("autoyast.xml", capsys)
    assert text.startswith("<?xml")
    profile = ElementTree.fromstring(text)
    values = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in profile.iter()}
    assert (values["hostname"], values["user_password"], values["confirm"]) == ("web1", "$6$salt$hash", "false")
    assert values["source"] == f'curl --silent "{UP}"'
    assert "product" not in values
    with open(page / "hosts/web1.toml", "a") as file:
        file.write('product = "SLES"\n')
    assert '<products config:type="list"><product>SLES</product></products>' in render("autoyast.xml", capsys)


def test_esxi_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = render("esxi.cfg", capsys)
    assert "\ninstall --firstdisk --overwritevmfs\nnetwork --bootproto=dhcp --hostname=web1\n" in text
    assert "\nrootpw --iscrypted $6$salt$hash\n" in text
    assert f'wget -q -O /dev/null "{UP}"\n' in text


def test_windows_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = page / "hosts/web1.toml"
    path.write_text(path.read_text() + 'password = "a<b"\n')
    assert render("windows/winpeshl.ini", capsys).split() == ["[LaunchApps]", "startnet.cmd"]
    assert "\nnet use Z: \\\\10.0.0.1\\windows\n" in render("windows/startnet.cmd", capsys)
    root = ElementTree.fromstring(render("windows/unattend.xml", capsys).encode())
    namespaces = {"u": "urn:schemas-microsoft-com:unattend"}
    values = {
        name: [each.text for each in root.iterfind(f".//u:{name}", namespaces)] for name in ("ComputerName", "Path")
    }
    assert values == {"ComputerName": ["web1"], "Path": [f'curl.exe -s "{UP}"']}
    assert [each.text for each in root.iterfind(".//u:Password/u:Value", namespaces)] == ["a<b"]
    assert [each.get("pass") for each in root] == ["windowsPE", "specialize", "oobeSystem"]


def test_ignition_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = json.loads(render("ignition/live.ign", capsys))
    (unit,) = live["systemd"]["units"]
    assert "\nExecStart=/bin/bash /etc/install.sh\n" in unit["contents"]
    assert live["storage"]["files"][0]["contents"]["source"] == "http://10.0.0.1:8069/ignition/install.sh"
    script = render("ignition/install.sh", capsys)
    assert subprocess.run(["bash", "-n"], input=script.encode()).returncode == 0
    assert f'curl --silent "{UP}"\nsystemctl reboot\n' in script
    installed = json.loads(render("ignition/installed.ign", capsys))
    assert installed["passwd"]["users"] == [{"name": "core", "passwordHash": "$6$salt$hash"}]
    assert installed["storage"]["files"][0]["contents"]["source"] == "data:,web1"


def test_talos_of_the_examples(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("machine-token", "machine-ca", "cluster-id", "cluster-secret", "cluster-token", "cluster-ca")
    with open(page / "hosts/web1.toml", "a") as file:
        file.write('[talos]\nendpoint = "https://10.0.0.9:6443"\n')
        file.writelines(f'{name} = "{name}=="\n' for name in names)
    configuration = yaml.safe_load(render("talos.yaml", capsys))
    assert configuration["machine"]["install"] == {"diskSelector": {"size": ">= 8GB"}, "wipe": True}
    assert configuration["machine"]["ca"] == {"crt": "machine-ca==", "key": ""}
    (pod,) = configuration["machine"]["pods"]
    assert pod["spec"]["containers"][0]["command"][-1] == UP
    assert configuration["cluster"]["controlPlane"] == {"endpoint": "https://10.0.0.9:6443"}
    assert configuration["cluster"]["secret"] == "cluster-secret=="


def test_host_file_of_the_howto_is_toml() -> None:
    assert tomllib.loads(blocks("install.md", "toml")[1])["answers"] == "preseed.cfg"


@implementer(IBackend)
class CountedBackend:
    """A backend without files, which counts how often it is created."""

    created = 0

    @classmethod
    def configured(cls, context: PluginContext) -> "CountedBackend":
        """Called by boot_plugin."""
        cls.created += 1
        return cls()

    def open(self, path: str, request: TransferRequest) -> NoReturn:
        """See IBackend."""
        raise FileMissing()


counted = boot_plugin(IBackend, CountedBackend)


def test_plugins_are_created_once(site: Path, run: Run) -> None:
    CountedBackend.created = 0
    (site / "bootfw.toml").write_text(CONFIG + f'[[backend]]\nuse = "{__name__}:counted"\n')
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "debian-12"\nanswers = "preseed.cfg"\n')
    assert run("web1")[0] == 0
    assert ordered_files(run) == ["install/debian-12/preseed.cfg.ipxe"]
    assert CountedBackend.created == 1
