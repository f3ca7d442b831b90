// A server that answers HTTP on port 8000, and, given names, a client of such servers.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func serve() {
	listener, err := net.Listen("tcp", ":8000")
	must(err)
	for {
		connection, err := listener.Accept()
		must(err)
		go func() {
			defer connection.Close()
			reader := bufio.NewReader(connection)
			for line := "?"; strings.TrimSpace(line) != ""; {
				if line, err = reader.ReadString('\n'); err != nil {
					return
				}
			}
			fmt.Fprint(connection, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\ngo\n")
		}()
	}
}

// Asks whom it finds there; also tells whether it was MPTCP to the end.
func get(host string, multipath bool) string {
	var dialer net.Dialer
	dialer.SetMultipathTCP(multipath)
	connection, err := dialer.Dial("tcp", net.JoinHostPort(host, "8000"))
	must(err)
	defer connection.Close()
	fmt.Fprint(connection, "GET / HTTP/1.0\r\n\r\n")
	line, err := bufio.NewReader(connection).ReadString('\n')
	must(err)
	kept, err := connection.(*net.TCPConn).MultipathTCP()
	must(err)
	return fmt.Sprint(strings.Fields(line)[1], " ", kept)
}

func main() {
	if len(os.Args) == 1 {
		serve()
	}
	for _, name := range os.Args[1:] {
		fmt.Println(name, "ip", get(name, false), get(name, true))
		for _, family := range []string{"ip4", "ip6"} {
			address, err := net.ResolveIPAddr(family, name)
			must(err)
			host := address.String()
			fmt.Println(name, family, get(host, false), get(host, true))
		}
	}
}
