"""What a training says while it is silent for long."""

import logging

from show1.cli.training import TrainingProgress


def test_what_is_being_done_is_what_is_logged_but_no_warning() -> None:
    logger = logging.getLogger("show1.training.validation")
    with TrainingProgress(10) as progress:
        progress({"step": 4.0, "loss": 1.0, "samples_per_second": 2.0})
        progress({"step": 5.0, "loss": 1.0, "samples_per_second": 2.0})
        assert progress.heartbeat.doing == "step 5/10 is done, the next ones are running"
        logger.info("validating on %d clips", 3)
        logger.warning("LPIPS is left out")
        assert progress.heartbeat.doing == "validating on 3 clips"
        progress({"step": 5.0, "val_loss": 1.0})
        assert progress.heartbeat.doing == "step 5/10 is done, the next ones are running"
