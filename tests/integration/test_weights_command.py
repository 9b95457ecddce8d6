"""`samreg weights`: list, verify, convert and fetch, without a network."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import safetensors.torch
import torch

from samreg import cli
from samreg.cli_options import config_from
from samreg.cli_parser import build_parser
from samreg.sam import checkpoints, fetching
from samreg.sam.family import FAMILY
from samreg.sam.loading import load_sam
from samreg.sam.model import SamFamilyModel
from tests.originals import answer_of_ours
from tests.tiny_family import publish, tiny
from tests.tiny_sam import tiny_sam
from tests.unit.test_encoders_sam import save_original


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return save_original(tiny_sam(), tmp_path_factory.mktemp("original") / "mine.pth")


def weights(*arguments: object) -> int:
    return cli.main(["weights", *map(str, arguments)])


# list


def test_list_says_what_the_rows_hold(capsys):
    assert weights("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(FAMILY)
    assert rows["sam-vit-b"]["sha256"].startswith("ec2df627")
    assert rows["edgetam"]["sha256"].startswith("8858f8e4")
    assert rows["medsam"]["input"] == "1024 stretch unit"
    assert {name for name, row in rows.items() if not row["fetched"]} == {n for n, row in FAMILY.items() if row.page}
    assert not rows["sam3"]["fetched"]
    assert weights("list") == 0
    text = capsys.readouterr().out
    for row in FAMILY.values():
        assert row.name in text
        assert row.source in text
        assert row.note in text


def test_info_names_the_same_family(capsys):
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sam_family"] == list(FAMILY)


# verify


def test_verify_says_what_the_file_holds(original, capsys):
    assert weights("verify", original, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["variant"] == "sam-vit-b"
    assert facts["architecture"] == "sam"
    assert facts["parameters"] == sum(p.numel() for p in tiny_sam().parameters())
    assert facts["sha256"] == sha256(original.read_bytes()).hexdigest()
    assert facts["hash"] == "unknown"
    assert weights("verify", original, "--variant", "medsam") == 0
    assert "variant:      medsam" in capsys.readouterr().out


def test_verify_knows_the_published_hash(original, monkeypatch, capsys):
    publish(monkeypatch, "medsam", sha256=sha256(original.read_bytes()).hexdigest())
    assert weights("verify", original, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["variant"], facts["hash"]) == ("medsam", "published")


@pytest.mark.parametrize("arguments", [("sam_vit_b_01ec64.pth",), ("mine.pth", "--variant", "sam-vit-b")])
def test_verify_refuses_another_file_under_a_published_name(original, tmp_path, arguments, capsys):
    shutil.copy(original, tmp_path / arguments[0])
    assert weights("verify", tmp_path / arguments[0], *arguments[1:]) == 3
    said = capsys.readouterr().err
    assert sha256(original.read_bytes()).hexdigest() in said
    assert FAMILY["sam-vit-b"].sha256 in said


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", None])
def test_verify_refuses_what_cannot_be_read(original, tmp_path, content, capsys):
    path = tmp_path / "a.pth"
    path.write_bytes(original.read_bytes()[:9000] if content is None else content)
    assert weights("verify", path) == 3
    assert "weights 'a.pth'" in capsys.readouterr().err


def test_verify_refuses_a_video_model_without_a_tracker(tmp_path, capsys):
    tiny("sam3", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam3_video"}')
    assert weights("verify", tmp_path) == 3
    assert "shapes" in capsys.readouterr().err


def test_verify_of_nothing_is_a_wrong_argument(tmp_path, capsys):
    assert weights("verify", tmp_path / "absent.pth") == 2
    with pytest.raises(SystemExit) as end:
        weights("verify", tmp_path, "--variant", "no-such")
    assert end.value.code == 2


# convert


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-hq-vit-b", "sam2-tiny", "medsam2", "mobilesam", "sam3"])
def test_what_is_converted_gives_the_same_answers(name, tmp_path, capsys):
    source = tiny(name, tmp_path / "source")
    assert weights("convert", source, tmp_path / "out") == 0
    assert name in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "samreg.json"}
    before, after = SamFamilyModel(source), SamFamilyModel(tmp_path / "out")
    assert after.variant == before.variant
    pixels, point = torch.randn(1, 3, before.image_size, before.image_size), torch.tensor([30.0, 40.0])
    for a, b in zip(*(answer_of_ours(model, pixels, point) for model in (before, after)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_an_original_checkpoint_becomes_a_folder_that_transformers_reads(original, tmp_path):
    from transformers import SamModel

    assert weights("convert", original, tmp_path / "out", "--variant", "medsam") == 0
    assert load_sam(tmp_path / "out").variant.name == "medsam"
    theirs = SamModel.from_pretrained(tmp_path / "out", local_files_only=True).state_dict()
    ours = tiny_sam().state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_a_conversion_is_whole_or_absent(original, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    assert weights("convert", original, tmp_path / "there") == 2
    assert weights("convert", original, tmp_path / "out", "--variant", "sam2-tiny") == 2
    write = safetensors.torch.save_file

    def damaging(tensors, *arguments, **options):
        write({name: tensor + 1 for name, tensor in tensors.items()}, *arguments, **options)

    monkeypatch.setattr(safetensors.torch, "save_file", damaging)
    assert weights("convert", original, tmp_path / "out") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


# fetch


def mirror(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return path.as_uri()


def test_fetch_checks_the_hash(tmp_path, monkeypatch, capsys):
    url = mirror(tmp_path / "any.pth", b"tensors")
    publish(monkeypatch, "sam-vit-b", sha256=sha256(b"tensors").hexdigest())
    assert weights("fetch", "sam-vit-b", "-o", tmp_path / "new", "--url", url) == 0
    out = capsys.readouterr().out
    assert "as published" in out
    path = Path(out.splitlines()[0])
    assert path == tmp_path / "new" / "sam_vit_b_01ec64.pth"
    assert path.read_bytes() == b"tensors"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert weights("fetch", "sam-vit-b", "-o", tmp_path / "new", "--url", url) == 2
    assert "is there already" in capsys.readouterr().err


def test_fetch_deletes_what_was_changed(tmp_path, capsys):
    url = mirror(tmp_path / "any.pth", b"something else")
    assert weights("fetch", "sam-vit-b", "-o", tmp_path / "new", "--url", url) == 3
    said = capsys.readouterr().err
    assert FAMILY["sam-vit-b"].sha256 in said
    assert sha256(b"something else").hexdigest() in said
    assert not list((tmp_path / "new").iterdir())


def test_fetch_says_what_it_could_not_check(tmp_path, capsys):
    url = mirror(tmp_path / "any.pth", b"tensors")
    assert weights("fetch", "medsam", "-o", tmp_path, "--url", url, "--quiet") == 0
    said = capsys.readouterr()
    assert f"SHA-256 {sha256(b'tensors').hexdigest()} (not checked" in said.out
    assert said.err == ""
    assert (tmp_path / "medsam_vit_b.pth").is_file()


def test_a_repository_is_fetched_as_a_folder_that_knows_its_row(tmp_path, capsys):
    source = tiny("slimsam-77", tmp_path / "mirror")
    assert weights("fetch", "slimsam-77", "-o", tmp_path / "w", "--url", source.as_uri() + "/") == 0
    folder = Path(capsys.readouterr().out.splitlines()[0])
    assert folder == tmp_path / "w" / "SlimSAM-uniform-77"
    assert load_sam(folder).variant.name == "slimsam-77"
    assert checkpoints.hash_of([folder / "model.safetensors"]) == checkpoints.hash_of([source / "model.safetensors"])


@pytest.mark.parametrize("name", ["sam3", "sam-med2d"])
def test_what_is_got_by_hand_is_refused_with_its_page(name, tmp_path, capsys):
    assert weights("fetch", name, "-o", tmp_path) == 2
    assert FAMILY[name].page in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:9/a.pth", "file:///absent/a.pth", "https://host.invalid/a.pth", "https://[::1"]
)
def test_a_failed_download_is_one_clear_error(url, tmp_path, capsys):
    assert weights("fetch", "sam-vit-b", "-o", tmp_path, "--url", url) == (2 if url.endswith("[::1") else 1)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("samreg: ")
    assert url in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://example.org/a.pth", "ftp://example.org/a.pth", "/tmp/a.pth"])
def test_an_address_without_encryption_is_refused(url, tmp_path, capsys):
    assert weights("fetch", "sam-vit-b", "-o", tmp_path, "--url", url) == 2
    assert url in capsys.readouterr().err


def test_a_download_that_breaks_off_is_refused(tmp_path, monkeypatch, capsys):
    url = mirror(tmp_path / "any.pth", b"tensors")
    opened = fetching.urllib.request.urlopen

    def longer(*arguments, **options):
        answer = opened(*arguments, **options)
        answer.headers.replace_header("Content-Length", "100")
        return answer

    monkeypatch.setattr(fetching.urllib.request, "urlopen", longer)
    assert weights("fetch", "medsam", "-o", tmp_path / "new", "--url", url) == 1
    assert "7 of 100 bytes came" in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir())


def test_every_row_has_an_address_of_its_own():
    fetched = [row.source for row in FAMILY.values() if not row.page]
    assert len(set(fetched)) == len(fetched)
    assert all(address.startswith("https://") for address in fetched)


# variant in the configuration


def test_the_variant_takes_part_in_the_configuration(tmp_path, capsys):
    from samreg.availability import check_config
    from samreg.config import Config

    parser = build_parser()
    args = parser.parse_args(
        ["register", "a", "b", "-o", "out", "--encoder", "sam", "--weights", "w", "--variant", "medsam"]
    )
    config = config_from(args)
    assert config.variant == "medsam"
    assert config.hash != config.with_values({"variant": None}).hash
    for values in ({"variant": "medsam"}, {"encoder": "sam", "weights": str(tmp_path), "variant": "no-such"}):
        with pytest.raises(Exception, match="variant") as error:
            check_config(Config().with_values(values))
        assert error.value.exit_code == 2


def test_the_encoder_takes_the_variant(original):
    from samreg.encoders import create_encoder

    encoder = create_encoder("sam", weights=original, variant="medsam")
    assert encoder.slices.model.variant.name == "medsam"
