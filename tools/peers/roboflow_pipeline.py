"""The decoder of Roboflow's ``inference``: its InferencePipeline around a model that does nothing.

``streamvision`` is the package in which ``inference`` keeps that pipeline; it alone is a fraction of the size.
"""

from typing import Any

from streamvision.stream.pipeline import InferencePipeline

from tools.peers.measuring import Meter, arguments


def main() -> None:
    """Run the pipeline over the clip again and again."""
    options = arguments(__doc__).parse_args()
    meter, going = Meter(options.seconds), True

    def sink(_prediction: object, _frame: object) -> None:
        nonlocal going
        if going and not meter.count():
            going = False
            pipeline.terminate()

    def nothing(frames: list[Any]) -> list[dict[str, Any]]:
        return [{} for _ in frames]

    while going:
        pipeline = InferencePipeline.init_with_custom_logic(
            video_reference=str(options.source), on_video_frame=nothing, on_prediction=sink
        )
        pipeline.start(use_main_thread=False)
        pipeline.join()
    meter.report(("numpy", "opencv-python", "streamvision"), looks=False)


if __name__ == "__main__":
    main()
