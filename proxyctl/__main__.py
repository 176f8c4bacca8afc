"""`python -m proxyctl`."""

from proxyctl.cli.main import main

main()
