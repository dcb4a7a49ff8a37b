"""Stage infer_cam: the raw CAMs of whole images, at every scale, before any fusion."""

from __future__ import annotations

from sfc.config import Cam
from sfc.data.manifest import read_manifest
from sfc.errors import UserError
from sfc.localization.multiscale import infer_cams, ready
from sfc.localization.store import CamStore, CamWriter, empty_maps, shard_path
from sfc.methods import load_cam_network
from sfc.model_file import CAM, read_facts
from sfc.sealed import sealed
from sfc.training import distributed
from stages._scratch import Scratch, take_over
from stages._stage import device, output, progress, say, stage, workers, write_json, writing

MODEL = "out/cam.safetensors"
INPUTS = ["out/manifest.csv", "out/classes.json", MODEL]


@stage(
    "Infer the CAMs of the trained method, of all its kinds at all scales.",
    reads=", ".join(INPUTS) + ", the images",
    writes="out/cams/ (safetensors shards), metrics/infer_cam.json",
)
def main(cam: Cam) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    images = {split: manifest.members(split) for split in cam.splits}
    records = {record.id: record for split in images.values() for record in split}
    if not records:
        raise UserError("cam.splits: the manifest has no image in any of these splits; name train")
    for split in (split for split, found in images.items() if not found):
        say(f"infer_cam: the data set has no image in split {split}")
    read_facts(MODEL, task=CAM).check_classes(manifest.classes, MODEL)
    network = ready(
        load_cam_network(MODEL, target),
        pcm_iters=cam.pcm_iters,
        seed_pcm_iters=cam.seed_pcm_iters,
        precision=cam.precision,
    )
    say(f"infer_cam: {len(records):,} images at scales {', '.join(map(str, cam.scales))} on {target}")

    with Scratch("infer_cam", sections=[cam], inputs=INPUTS) as scratch:
        writer = CamWriter(
            scratch.folder,
            kinds=network.kinds,
            scales=cam.scales,
            ids=list(records),
            fused=network.fused,
            appear=sealed,
        )
        files = [shard_path(scratch.folder, shard) for shard in range(len(writer.shards))]
        mine = scratch.left([[file] for file in files])[distributed.rank() :: distributed.world_size()]
        cams = infer_cams(
            network,
            [[records[id] for id in writer.shards[shard]] for shard in mine],
            num_classes=len(manifest.classes),
            scales=cam.scales,
            flip=cam.flip,
            mask_absent=cam.mask_absent,
            batch_size=cam.batch_size,
            precision=cam.precision,
            device=target,
            workers=workers(),
        )
        for id, maps in progress(cams, total=sum(len(writer.shards[shard]) for shard in mine), label="CAMs"):
            with writing(scratch.folder):
                writer.write(id, maps)
        distributed.barrier()
        if distributed.is_main():
            with output("out/cams") as folder:
                folder.mkdir()
                for file in files:
                    take_over(file, folder / file.name)
                writer.finish(folder)
            counts = {split: len(found) for split, found in images.items()}
            write_json("metrics/infer_cam.json", {"images": counts, "empty": empty_maps(CamStore("out/cams"))})
    distributed.stop()
    return f"infer_cam: CAMs of {len(records):,} images to out/cams"


if __name__ == "__main__":
    main()
