"""DPM-Solver++ in the formulas of diffusers 0.19, which the published run used."""

from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from show1.diffusion.predictions import predicted_x0


class PublishedDPMSolver(DPMSolverMultistepScheduler):  # type: ignore[misc]
    """The second-order multistep solver of arXiv:2211.01095 (Algorithm 2), to the last bit of that release.

    It looks alpha, sigma and lambda up by timestep, where later releases compute all three from one table of sigmas:
    the same numbers but for rounding, of which sampling in windows makes large differences (see
    `show1.networks.UNet3DConditionModel.use_published_order`).
    """

    @staticmethod
    def covers(scheduler: SchedulerMixin) -> bool:
        """Whether the formulas are those of a scheduler with its config."""
        if type(scheduler) is not DPMSolverMultistepScheduler:
            return False
        config = scheduler.config
        spaced_anew = any(value for key, value in config.items() if key.startswith("use_") and key.endswith("_sigmas"))
        return (
            config.algorithm_type == "dpmsolver++"
            and config.solver_type == "midpoint"
            and config.solver_order in (1, 2)
            and config.final_sigmas_type == "sigma_min"
            and not (spaced_anew or config.use_lu_lambdas)
        )

    def convert_model_output(self, model_output: Tensor, *, sample: Tensor, **unused: Any) -> Tensor:
        """The clean sample that a prediction implies, (N, C, H, W)."""
        t = self.timesteps[self.step_index]
        alpha_t, sigma_t, _ = self._at(t)
        if self.config.variance_type in ("learned", "learned_range"):
            model_output = model_output[:, : sample.shape[1]]
        denoised = predicted_x0(sample, model_output, alpha_t, sigma_t, self.config.prediction_type)
        return self._threshold_sample(denoised) if self.config.thresholding else denoised

    def dpm_solver_first_order_update(self, model_output: Tensor, *, sample: Tensor, **unused: Any) -> Tensor:
        """One step from the last prediction (N, C, H, W); returns the next sample, (N, C, H, W)."""
        _, sigma_s, lambda_s = self._at(self.timesteps[self.step_index])
        alpha_t, sigma_t, lambda_t = self._at(self._next())
        h = lambda_t - lambda_s
        out: Tensor = (sigma_t / sigma_s) * sample - (alpha_t * (torch.exp(-h) - 1.0)) * model_output
        return out

    def multistep_dpm_solver_second_order_update(
        self, model_output_list: list[Tensor], *, sample: Tensor, **unused: Any
    ) -> Tensor:
        """One step from the last two predictions (N, C, H, W), in midpoint form; returns (N, C, H, W)."""
        _, sigma_s0, lambda_s0 = self._at(self.timesteps[self.step_index])
        _, _, lambda_s1 = self._at(self.timesteps[self.step_index - 1])
        alpha_t, sigma_t, lambda_t = self._at(self._next())
        m0, m1 = model_output_list[-1], model_output_list[-2]
        h, h_0 = lambda_t - lambda_s0, lambda_s0 - lambda_s1
        r0 = h_0 / h
        d1 = (1.0 / r0) * (m0 - m1)
        change = alpha_t * (torch.exp(-h) - 1.0)
        out: Tensor = (sigma_t / sigma_s0) * sample - change * m0 - 0.5 * change * d1
        return out

    def _at(self, timestep: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
        """Alpha, sigma, and lambda = log(alpha / sigma), at a timestep."""
        alpha_t = torch.sqrt(self.alphas_cumprod)[timestep]
        sigma_t = torch.sqrt(1 - self.alphas_cumprod)[timestep]
        return alpha_t, sigma_t, torch.log(alpha_t) - torch.log(sigma_t)

    def _next(self) -> Tensor | int:
        """The timestep of the next step; after the last step, the first training timestep."""
        following = self.step_index + 1
        return self.timesteps[following] if following < len(self.timesteps) else 0
