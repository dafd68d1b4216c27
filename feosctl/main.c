/* feosctl: the service of feos-vmd, for people. */
#include "cli.h"

int main(int argc, char **argv) {
        return cli_run(argc, argv);
}
