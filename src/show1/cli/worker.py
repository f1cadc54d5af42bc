"""`show1 worker`."""

from typing import Annotated

import typer

from show1.cli.flags import DeviceFlag, MemoryFlag
from show1.cli.serving import (
    AdapterFolder,
    Data,
    Database,
    Dtype,
    Experts,
    Grace,
    Log,
    Model,
    StoreUrl,
    check_installed,
    data_folder,
    load_experts,
    logged,
)
from show1.cli.session import load_pipeline
from show1.cli.settings import parse_model


def worker(
    data: Data = "show1-data",
    database: Database = None,
    store: StoreUrl = None,
    model: Model = "mini",
    memory: MemoryFlag = "auto",
    device: DeviceFlag = None,
    dtype: Dtype = None,
    expert: Experts = None,
    adapters: AdapterFolder = None,
    grace: Grace = 30.0,
    look: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look for jobs of workers that died.")
    ] = 5.0,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Let Prometheus read the numbers of the stages there, at /metrics."),
    ] = None,
    log: Log = "text",
) -> None:
    """Compute the jobs of a queue, one after another, until it is stopped.

    Start one per GPU, on any number of machines that share the database, and the folder or a store. A worker that dies
    costs at most the stage that it computed: another one, or the same one when it is started again, takes its job over.

    Examples:

    \b
      show1 worker
      show1 worker --database postgresql://show1:secret@db/show1 --data /mnt/show1 --device cuda:1
      show1 worker --database postgresql://show1:secret@db/show1 --store s3://bucket/show1
    """
    check_installed()
    folder = data_folder(data, adapters, store)
    with logged(log):
        if metrics is not None:
            from show1.server.metrics import serve_metrics

            serve_metrics(metrics)
        how = {"memory": memory, "device": device, "dtype": dtype}
        pipe = load_pipeline(parse_model(model), quiet=True, **how)
        experts = load_experts(model, expert or (), **how)
        from show1.server.worker import Worker

        url = database or folder.database
        Worker(pipe, folder, url, model=model, experts=experts, look_seconds=look).run(grace)
