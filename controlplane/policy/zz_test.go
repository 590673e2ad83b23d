package policy
import ("testing";"os";"encoding/json";"fmt";"github.com/seawall-mesh/seawall/controlplane/diag")
func TestZZ(t *testing.T){
 s,l,err:=Load(os.Getenv("ZZ"))
 fmt.Println(err)
 diag.WriteText(os.Stdout,l)
 b,_:=json.MarshalIndent(s,""," ")
 fmt.Println(string(b))
}
